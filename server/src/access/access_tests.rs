//! Who is let in, and what they may do, without a server around it.

use bytes::Bytes;
use http::HeaderValue;
use model::token::ResourceSet;
use model::{BatchBuilder, Operations, Scope};

use super::guard::Guard;
use super::*;

const ROOT: &str = "a-root-token-of-the-tests";

fn gate(is_required: bool) -> Gate {
    Gate::new(Arc::default(), is_required, Some(root::of_settings(ROOT)))
}

fn headers(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(value).expect("a header value"));
    headers
}

fn token(scope: Scope, expires_at_ms: Option<u64>) -> Access {
    let token = AccessToken { scope, expires_at_ms, auto_prefix_streams: true, ..root::of_settings(ROOT) };
    Access::Token(Arc::new(token))
}

fn code(result: Result<Access, ApiError>) -> Option<Code> {
    result.err().and_then(|error| error.code())
}

#[test]
fn a_server_that_requires_tokens_lets_in_only_those_it_knows() {
    let gate = gate(true);
    let shown = Shown::default();
    assert_eq!(code(gate.access(&HeaderMap::new(), &shown)), Some(Code::Authn));
    for bad in ["", "Bearer", "Bearer ", "Basic abc", ROOT, "Bearer no-such-token", &format!("Bearer {ROOT}x")] {
        assert_eq!(code(gate.access(&headers(bad), &shown)), Some(Code::Authn), "{bad}");
    }
    for good in [format!("Bearer {ROOT}"), format!("bearer {ROOT}"), format!("BEARER  {ROOT}")] {
        for _ in 0..2 {
            assert!(matches!(gate.access(&headers(&good), &shown), Ok(Access::Token(_))), "{good}");
        }
    }
    assert_eq!(
        code(gate.access(&headers("Bearer other"), &shown)),
        Some(Code::Authn),
        "another on the same connection"
    );
}

#[test]
fn an_open_server_refuses_only_what_looks_like_a_token_of_ours() {
    let gate = gate(false);
    let shown = Shown::default();
    assert!(matches!(gate.access(&HeaderMap::new(), &shown), Ok(Access::Open)));
    for any in ["Bearer any", "Basic abc", "x"] {
        assert!(matches!(gate.access(&headers(any), &shown), Ok(Access::Open)), "{any}");
    }
    assert!(matches!(gate.access(&headers(&format!("Bearer {ROOT}")), &shown), Ok(Access::Token(_))));
    let unknown = secret::Secret::new().expect("random");
    assert_eq!(code(gate.access(&headers(&format!("Bearer {}", unknown.reveal())), &shown)), Some(Code::Authn));
}

#[test]
fn no_refusal_repeats_what_was_shown() {
    let error = gate(true).access(&headers("Bearer SECRETSECRET"), &Shown::default()).expect_err("unknown");
    assert!(!error.body_json().contains("SECRET"));
}

#[test]
fn an_expired_token_is_refused_at_requests_and_in_sessions() {
    let (past, future) = (token(Scope::all(), Some(1)), token(Scope::all(), Some(u64::MAX)));
    assert_eq!(code(checked(past.clone())), Some(Code::Authn));
    assert!(checked(future.clone()).is_ok());
    let gate = gate(true);
    assert!(Guard::new(&gate, &past).check().is_err() && Guard::new(&gate, &future).check().is_ok());
    let Access::Token(known) = &future else { panic!("a token") };
    let stranger = AccessToken { secret: secret::hash(b"nobody's"), ..AccessToken::clone(known) };
    assert!(Guard::new(&gate, &Access::Token(stranger.into())).check().is_err(), "nobody knows it any more");
    assert!(Guard::new(&gate, &Access::Open).check().is_ok());
}

/// A batch with a record of each of these kinds.
fn batch(kinds: &[&str]) -> Batch {
    let mut out = Vec::new();
    let mut records = Vec::new();
    for kind in kinds {
        let start = out.len();
        if !kind.is_empty() {
            let len = u8::try_from(kind.len()).expect("short");
            out.extend_from_slice(&[0x12, 2 + len, 0x12, len]);
            out.extend_from_slice(kind.as_bytes());
        }
        let headers = model::record::Span::new(start, out.len() - start).expect("small");
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        records.push((headers, model::record::Span::new(start, 8).expect("small")));
    }
    let mut builder = BatchBuilder::new(Bytes::from(out));
    for (headers, body) in records {
        builder.push(None, headers, body).expect("valid");
    }
    builder.finish().expect("valid")
}

#[test]
fn each_record_of_a_batch_needs_the_operation_of_its_kind() {
    for (ops, kinds, refused) in [
        (&[Operation::Append][..], &["", ""][..], None),
        (&[Operation::Append], &["", "trim"], Some("`trim`")),
        (&[Operation::Append, Operation::Trim], &["", "trim", "fence"], Some("`fence`")),
        (&[Operation::Append, Operation::Trim, Operation::Fence], &["fence", "", "trim"], None),
        (&[Operation::Trim], &["trim"], None),
        (&[Operation::Trim], &["trim", ""], Some("`append`")),
        (&[Operation::Read], &[""], Some("`append`")),
    ] {
        let scope = Scope { ops: Operations::of(ops), ..Scope::default() };
        let error = token(scope, None).permit_batch(&batch(kinds)).err();
        assert_eq!(error.is_some(), refused.is_some(), "{ops:?} {kinds:?}");
        if let (Some(error), Some(op)) = (error, refused) {
            assert!(error.code() == Some(Code::PermissionDenied) && error.body_json().contains(op), "{error}");
        }
    }
    assert!(Access::Open.permit_batch(&batch(&["fence", "trim", ""])).is_ok());
}

#[test]
fn the_prefix_is_put_in_front_and_taken_off_again() {
    let name = |text: &str| StreamName::try_from(text).expect("valid");
    let access = token(Scope { streams: Some(ResourceSet::Prefix("app/".into())), ..Scope::all() }, None);
    assert_eq!(access.stream_in(name("a")), Ok(name("app/a")));
    assert_eq!(access.stream_out(name("app/a")), Some(name("a")));
    assert_eq!((access.stream_out(name("app/")), access.stream_out(name("other"))), (None, None));
    assert!(access.stream_in(name(&"x".repeat(509))).is_err(), "the whole name has its limit");
    let mut error = ApiError::new(Code::StreamNotFound, "stream `app/a` in basin `b` not found");
    access.error_out(&mut error);
    assert!(error.body_json().contains("stream `a` in basin"), "{error}");
    assert_eq!(Access::Open.stream_in(name("a")), Ok(name("a")));
}
