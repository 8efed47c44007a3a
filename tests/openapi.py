"""The document at `/openapi.json` as a judge: whether an answer is one that it describes, and whether a body is one that it permits.

Answers are held to more than the document says to clients: an object may have no key that is not described.
"""

import copy
import gzip
import json

import jsonschema
import referencing
import referencing.jsonschema
import zstandard

import raw_http

METHODS = ("get", "put", "post", "patch", "delete")
# What HTTP itself adds. Every other header of an answer has to be in the document.
HTTP_HEADERS = {"content-type", "content-length", "content-encoding", "transfer-encoding", "connection", "date", "vary", "allow"}
CORS_HEADERS = ("access-control-",)


class Document:
    """The document of one server."""

    def __init__(self, target):
        answer = raw_http.request(target, "GET", "/openapi.json")
        assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer
        self.value = answer.json()
        self.answers = _validators(_closed(self.value))
        self.requests = _validators(self.value)

    def operations(self):
        """`{(METHOD, path template): operation}`."""
        return {
            (method.upper(), path): item[method]
            for path, item in self.value["paths"].items()
            for method in METHODS
            if method in item
        }

    def codes(self):
        return self.value["components"]["schemas"]["Error"]["properties"]["code"]["enum"]

    def template(self, path):
        """The template of a path, its query aside; literal segments win over names. `None` for a path that is none of ours."""
        segments = path.split("?")[0].split("/")
        found = []
        for template in self.value["paths"]:
            parts = template.split("/")
            if len(parts) == len(segments) and all(p == s or p.startswith("{") for p, s in zip(parts, segments)):
                found.append((template.count("{"), template))
        best = min(found)[1] if found else None
        # `/v1/{basin}/{stream}` is for what none of the resources claims.
        if best == "/v1/{basin}/{stream}" and segments[2] in ("basins", "streams", "metrics", "access-tokens", "locations"):
            return None
        return best

    def check(self, method, path, answer):
        """Fails unless the document describes this answer. Returns `(method, template, status, media type)`, or `None` for what
        is no operation."""
        template = self.template(path)
        operation = self.value["paths"].get(template, {}).get(method.lower())
        if operation is None:
            if method not in ("HEAD", "OPTIONS"):
                assert answer.status in (404, 405) and answer.code in ("not_found", "method_not_allowed"), answer
            return None
        where = f"{method} {path}: {answer}"
        described = operation["responses"].get(str(answer.status))
        assert described, f"the document has no {answer.status} for {where}"
        self._check_headers(described.get("headers", {}), answer, where)
        media_type = answer.headers.get("content-type", "").split(";")[0] or None
        if media_type is None:
            assert "content" not in described and not answer.body, where
        else:
            assert media_type in described.get("content", {}), f"the document has no {media_type} for {where}"
        if media_type == "application/json":
            pointer = ["paths", template, method.lower(), "responses", str(answer.status), "content", media_type, "schema"]
            _validate(self.answers(pointer), json.loads(plain(answer)), where)
        return method, template, answer.status, media_type

    def _check_headers(self, described, answer, where):
        for name in answer.headers:
            known = name in HTTP_HEADERS or name in described or name.startswith(CORS_HEADERS)
            assert known, f"the document has no header {name} for {where}"
        for name, header in described.items():
            assert name in answer.headers or not header.get("required"), f"{name} is missing: {where}"
            if name in answer.headers:
                value = answer.headers[name]
                jsonschema.validate(int(value) if header["schema"]["type"] == "integer" else value, header["schema"])

    def permits(self, method, template, body):
        """Whether a JSON body is one that the document permits."""
        pointer = ["paths", template, method.lower(), "requestBody", "content", "application/json", "schema"]
        return self.requests(pointer).is_valid(body)


class Witness:
    """Stands before `raw_http.request`: every answer that passes has to be in the document."""

    def __init__(self, document, request):
        self.document = document
        self.request = request
        self.seen = set()

    def __call__(self, target, method, path, headers=None, body=None, **options):
        answer = self.request(target, method, path, headers, body, **options)
        self.seen.add(self.document.check(method, path, answer))
        return answer


def plain(answer):
    """The body without its compression."""
    coding = answer.headers.get("content-encoding")
    if coding == "gzip":
        return gzip.decompress(answer.body)
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(answer.body)
    return answer.body


def _closed(value):
    """The same with every described object closed. Parts of an `allOf` say no `type`, so they stay open."""
    if isinstance(value, list):
        return [_closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    closed = {key: _closed(item) for key, item in value.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _validators(document):
    """Makes validators for the schemas at places in the document."""
    resource = referencing.Resource(copy.deepcopy(document), referencing.jsonschema.DRAFT202012)
    registry = referencing.Registry().with_resource("urn:openapi", resource)
    checker = jsonschema.FormatChecker(["date-time"])

    def at(pointer):
        escaped = "/".join(step.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D") for step in pointer)
        schema = {"$ref": f"urn:openapi#/{escaped}"}
        return jsonschema.Draft202012Validator(schema, registry=registry, format_checker=checker)

    return at


def _validate(validator, body, where):
    error = jsonschema.exceptions.best_match(validator.iter_errors(body))
    assert error is None, f"{error.message} at {list(error.absolute_path)}; {where}"
