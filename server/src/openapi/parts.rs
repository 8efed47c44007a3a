//! The pieces that operations are described with, and how they look in the document.

use std::collections::{BTreeMap, BTreeSet};

use api::Code;
use api::schema::{self, Parameter, reference};
use serde_json::{Map, Value, json};

/// One operation.
pub(super) struct Operation {
    /// What generated clients call it.
    pub(super) id: &'static str,
    tag: &'static str,
    summary: &'static str,
    about: &'static str,
    query: Vec<Parameter>,
    headers: Vec<Parameter>,
    body: Option<Body>,
    answers: Map<String, Value>,
    errors: BTreeSet<Code>,
}

struct Body {
    is_required: bool,
    content: Value,
}

pub(super) const HEALTH: &str = "server";
pub(super) const BASINS: &str = "basins";
pub(super) const STREAMS: &str = "streams";
pub(super) const RECORDS: &str = "records";
pub(super) const LEASES: &str = "leases";
pub(super) const TOKENS: &str = "access tokens";
pub(super) const METRICS: &str = "metrics";
pub(super) const LOCATIONS: &str = "locations";

/// The groups of operations.
pub(super) fn tags() -> Value {
    json!([
        { "name": HEALTH, "description": "The server itself." },
        { "name": BASINS, "description": "Basins: where streams are." },
        { "name": STREAMS, "description": "Streams of a basin." },
        { "name": RECORDS, "description": "Records of a stream." },
        { "name": LEASES, "description": "One appender at a time. Not part of the S2 API." },
        { "name": TOKENS, "description": "Who may do what." },
        { "name": METRICS, "description": "What happened in the account, a basin or a stream." },
        { "name": LOCATIONS, "description": "Where basins are. A server is one location." },
    ])
}

impl Operation {
    /// One whose paths begin with `/v1`: it has the errors that all of these have.
    pub(super) fn new(tag: &'static str, id: &'static str, summary: &'static str, about: &'static str) -> Self {
        let errors = [
            Code::Authn,
            Code::PermissionDenied,
            Code::BadHeader,
            Code::RateLimited,
            Code::Storage,
            Code::ServerDraining,
        ];
        Self::outside(tag, id, summary, about).errors(&errors)
    }

    /// One that has only the errors it names.
    pub(super) fn outside(tag: &'static str, id: &'static str, summary: &'static str, about: &'static str) -> Self {
        Self {
            id,
            tag,
            summary,
            about,
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            answers: Map::new(),
            errors: BTreeSet::new(),
        }
    }

    /// Its query, which may be malformed.
    pub(super) fn query(mut self, parameters: Vec<Parameter>) -> Self {
        self.query = parameters;
        self.errors(&[Code::BadQuery])
    }

    /// A header of the request.
    pub(super) fn header(mut self, header: Parameter) -> Self {
        self.headers.push(header);
        self
    }

    /// It is about a basin that a header names.
    pub(super) fn in_basin(self) -> Self {
        let about =
            "The basin. It may be left out when the first label of the host names it, as in `my-basin.example.org`.";
        self.header(Parameter::optional("s2-basin", about, schema::basin_name())).errors(&[Code::BasinNotFound])
    }

    /// A body in JSON that must be there.
    pub(super) fn json(self, name: &str) -> Self {
        self.body(true, json!({ "application/json": { "schema": reference(name) } })).errors(&[Code::BadJson])
    }

    /// A body in JSON that may be left out or null.
    pub(super) fn optional_json(self, name: &str) -> Self {
        let schema = schema::nullable(reference(name));
        self.body(false, json!({ "application/json": { "schema": schema } })).errors(&[Code::BadJson])
    }

    /// A body of these media types. It may be too slow.
    pub(super) fn body(mut self, is_required: bool, content: Value) -> Self {
        self.body = Some(Body { is_required, content });
        self.errors(&[Code::RequestTimeout, Code::ClientHangup])
    }

    /// An answer in JSON.
    pub(super) fn answers(self, status: u16, about: &str, schema: Value) -> Self {
        self.answers_with(
            status,
            json!({ "description": about, "content": { "application/json": { "schema": schema } } }),
        )
    }

    /// An answer without a body.
    pub(super) fn answers_empty(self, status: u16, about: &str) -> Self {
        self.answers_with(status, json!({ "description": about }))
    }

    /// An answer in JSON that says what came of a creation.
    pub(super) fn provisions(self, status: u16, about: &str, name: &str) -> Self {
        let result = json!({
            "description": "What came of it.", "required": true,
            "schema": { "type": "string", "enum": ["created", "updated", "noop"] },
        });
        let content = json!({ "application/json": { "schema": reference(name) } });
        let answer = json!({ "description": about, "headers": { "s2-provision-result": result }, "content": content });
        self.answers_with(status, answer)
    }

    /// Any answer.
    pub(super) fn answers_with(mut self, status: u16, answer: Value) -> Self {
        self.answers.insert(status.to_string(), answer);
        self
    }

    /// Errors beside those that it has already.
    pub(super) fn errors(mut self, errors: &[Code]) -> Self {
        self.errors.extend(errors);
        self
    }

    pub(super) fn to_json(&self, security: Value) -> Value {
        let query = self.query.iter().map(|parameter| to_json(parameter, "query"));
        let headers = self.headers.iter().map(|parameter| to_json(parameter, "header"));
        let parameters: Vec<Value> = query.chain(headers).collect();
        let mut operation = json!({
            "operationId": self.id, "tags": [self.tag], "summary": self.summary, "description": self.about,
            "security": security, "responses": self.responses(),
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if let Some(Body { is_required, content }) = &self.body {
            operation["requestBody"] = json!({ "required": is_required, "content": content });
        }
        operation
    }

    fn responses(&self) -> Map<String, Value> {
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in &self.errors {
            by_status.entry(code.status()).or_default().push(*code);
        }
        let mut responses = self.answers.clone();
        for (status, codes) in by_status {
            let answer = failure(status, &codes);
            // 409 of a lease has codes of its own beside these.
            let answer = match responses.remove(&status.to_string()) {
                Some(former) => joined(former, &answer),
                None => answer,
            };
            responses.insert(status.to_string(), answer);
        }
        responses
    }
}

/// An error answer with one of these codes.
fn failure(status: u16, codes: &[Code]) -> Value {
    let about: Vec<String> = codes.iter().map(|code| format!("- `{}`: {}", code.as_str(), code.about())).collect();
    let codes: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let schema = json!({ "allOf": [reference("Error"), { "properties": { "code": { "enum": codes } } }] });
    let mut answer =
        json!({ "description": about.join("\n"), "content": { "application/json": { "schema": schema } } });
    if status == Code::RateLimited.status() {
        answer["headers"] = json!({ "retry-after-ms": {
            "description": "When to try again, in milliseconds.", "required": true, "schema": { "type": "integer", "minimum": 0 },
        } });
    }
    answer
}

/// Two answers of one status.
fn joined(former: Value, further: &Value) -> Value {
    let text = |answer: &Value| answer["description"].as_str().unwrap_or_default().to_owned();
    let schema = |answer: &Value| answer["content"]["application/json"]["schema"].clone();
    let about = format!("{}\n{}", text(&former), text(further));
    let either = json!({ "anyOf": [schema(&former), schema(further)] });
    json!({ "description": about, "content": { "application/json": { "schema": either } } })
}

fn to_json(parameter: &Parameter, place: &str) -> Value {
    let Parameter { name, about, schema, is_required } = parameter;
    json!({ "name": name, "in": place, "description": about, "required": is_required, "schema": schema })
}

/// The parameter that a segment of a path stands for, if it is in braces.
pub(super) fn path_parameter(segment: &str) -> Option<Value> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    let schema = match name {
        "basin" => schema::basin_name(),
        "stream" => schema::stream_name(),
        "id" => schema::token_id(),
        _ => unreachable!("the templates have no other names"),
    };
    Some(
        json!({ "name": name, "in": "path", "required": true, "description": schema["description"], "schema": schema }),
    )
}
