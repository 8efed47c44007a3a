//! Batches are taken from all buckets or none, whoever asks from whichever front; refusals say when to come again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn shared(limits: [&str; 3]) -> Arc<Shared> {
    let limits = limits.map(|text| text.parse::<NameLimits>().expect("limits"));
    Shared::new(limits.each_ref()).expect("something is limited")
}

fn subject(shared: &Arc<Shared>, token: Option<&str>, basin: &str, stream: &str) -> Subject {
    let token = token.map(|id| TokenId::try_from(id).expect("an id"));
    let (basin, stream) = (BasinName::try_from(basin).expect("a name"), StreamName::try_from(stream).expect("a name"));
    Limits::new(Some(Arc::clone(shared)), Arc::default()).subject(token.as_ref(), &basin, &stream)
}

#[test]
fn without_limits_nothing_is_shared() {
    let off = NameLimits::off();
    assert!(Shared::new([&off, &off, &off]).is_none());
    let limits = Limits::new(None, Arc::default());
    assert!(limits.admit(&Subject::default(), u64::MAX).is_ok() && limits.seat(Subject::default()).is_ok());
}

#[test]
fn each_name_has_its_own_limit_and_all_of_them_count() {
    let shared = shared(["appends-per-second=3", "appends-per-second=2", "appends-per-second=1"]);
    let (basin, other) = ("the-first-basin", "the-other-basin");
    let refused_by = |token, basin, stream| {
        shared.admit(&subject(&shared, token, basin, stream), 1, Turn::Once, 0).err().map(|limited| limited.scope)
    };
    assert_eq!(refused_by(Some("t"), basin, "a"), None);
    assert_eq!(refused_by(Some("t"), basin, "a"), Some(Scope::Stream));
    assert_eq!(refused_by(Some("t"), basin, "b"), None);
    // What was refused was taken from nobody: the token has one left.
    assert_eq!(refused_by(Some("t"), basin, "c"), Some(Scope::Basin));
    assert_eq!(refused_by(Some("t"), other, "a"), None);
    assert_eq!(refused_by(Some("t"), other, "b"), Some(Scope::Token));
    assert_eq!(refused_by(Some("u"), other, "b"), None);
    // Without a token there is none to be limited.
    assert_eq!(refused_by(None, "a-third-basin", "a"), None);
}

#[test]
fn a_refusal_names_the_limit_and_the_time() {
    let shared = shared(["", "bytes-per-second=3000", "appends-per-second=5"]);
    let subject = subject(&shared, None, "the-first-basin", "a");
    shared.admit(&subject, 6000, Turn::Once, 0).expect("a batch beyond the burst");
    let limited = shared.admit(&subject, 1, Turn::Once, 0).expect_err("the basin is in debt");
    assert_eq!((limited.scope, limited.kind, limited.most), (Scope::Basin, Kind::Bytes, 3000));
    let error = ApiError::from(limited);
    // A debt of 3000 and one byte: a third of a millisecond is a whole one.
    assert_eq!((error.status(), error.retry_after_ms), (429, Some(1001)));
    assert!(
        error.body_json().starts_with(
            r#"{"code":"rate_limited","message":"this basin takes 3000 metered bytes of appends per second"#
        )
    );
    assert!(shared.admit(&subject, 1, Turn::Once, limited.retry_after_ns).is_ok());
}

#[test]
fn sessions_are_counted_for_all_names_or_none() {
    let shared = shared(["sessions=2", "", "sessions=1"]);
    let limits = Limits::new(Some(Arc::clone(&shared)), Arc::default());
    let at = |stream| subject(&shared, Some("t"), "the-first-basin", stream);
    let first = limits.seat(at("a")).expect("a place");
    let refused = limits.seat(at("a")).err().expect("the stream has its one");
    assert_eq!((refused.scope, refused.kind, refused.most), (Scope::Stream, Kind::Sessions, 1));
    // The refusal has not counted for the token.
    let second = limits.seat(at("b")).expect("a place");
    assert_eq!(limits.seat(at("c")).err().expect("the token has its two").scope, Scope::Token);
    drop(first);
    let third = limits.seat(at("a")).expect("a place again");
    drop((second, third));
    assert!(limits.seat(at("b")).is_ok());
}

#[test]
fn many_threads_get_what_one_would() {
    let shared = shared(["", "appends-per-second=500", "bytes-per-second=1000000000"]);
    let (now_ns, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let subject = subject(&shared, None, "the-first-basin", "a");
                loop {
                    // One clock for all: each look moves it on by 100 us.
                    let now = now_ns.fetch_add(100_000, Ordering::Relaxed);
                    if now > 10 * SECOND {
                        break;
                    }
                    if shared.admit(&subject, 1, Turn::Once, now).is_ok() {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    // 500 at once and 500 in each of ten seconds. Asked 20 times as often as that, hardly anything is left.
    let admitted = admitted.load(Ordering::Relaxed);
    assert!((5490..=5500).contains(&admitted), "{admitted}");
}
