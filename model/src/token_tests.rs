//! Every operation, group and set of names permits what the table in s2-wire.md 1.13 says, and nothing else.

use super::*;

/// The operations of each group, by their numbers: account read, account write, basin read, and so on.
const GROUP_NUMBERS: [&[u8]; 6] =
    [&[1, 8, 19, 22, 23], &[2, 3, 4, 6, 7, 24], &[5, 9, 20], &[10, 11, 13], &[12, 14, 16, 21], &[15, 17, 18]];

fn exact(name: &str) -> ResourceSet {
    ResourceSet::Exact(name.into())
}

fn prefix(name: &str) -> ResourceSet {
    ResourceSet::Prefix(name.into())
}

#[test]
fn names_and_numbers_are_those_of_the_protocol() {
    for (number, op) in (1..).zip(Operation::ALL) {
        assert_eq!(op as u8, number);
        assert_eq!(Operation::parse(op.as_str()), Some(op));
    }
    assert_eq!(Operation::ALL.len(), 24);
    assert_eq!(Operation::parse("Append"), None);
    assert_eq!(Operation::parse(""), None);
}

#[test]
fn every_group_stands_for_its_operations_alone() {
    for bits in 0..64u8 {
        let groups = OpGroups::from_bits(bits).expect("six bits");
        assert_eq!(groups.bits(), bits);
        for op in Operation::ALL {
            let expected = (0..6).any(|g| bits & (1 << g) != 0 && GROUP_NUMBERS[g].contains(&(op as u8)));
            assert_eq!(groups.operations().has(op), expected, "{op:?} with {bits:06b}");
        }
    }
    assert_eq!(OpGroups::from_bits(64), None);
    assert_eq!(OpGroups::ALL.operations(), Operations::of(&Operation::ALL));
}

#[test]
fn every_operation_is_permitted_by_itself_or_its_group_on_names_in_scope() {
    let basin = BasinName::try_from("my-basin").expect("valid");
    let stream = StreamName::try_from("logs/a").expect("valid");
    let token = TokenId::try_from("app-1").expect("valid");
    let sets: [(Option<&str>, bool, bool); 7] = [
        // The set's text, whether it is exact, and whether the names above are in it (each gets its own text).
        (None, true, false),
        (Some(""), true, false),
        (Some(""), false, true),
        (Some("whole"), true, true),
        (Some("other"), true, false),
        (Some("begin"), false, true),
        (Some("other"), false, false),
    ];
    let set_for = |name: &str, (text, is_exact, _): (Option<&str>, bool, bool)| {
        let text = match text? {
            "whole" => name,
            "begin" => &name[..3],
            "other" => "zzzzzzzz",
            text => text,
        };
        Some(if is_exact { exact(text) } else { prefix(text) })
    };
    for op in Operation::ALL {
        for row in sets {
            for by_group in [false, true] {
                let group = GROUP_NUMBERS.iter().position(|g| g.contains(&(op as u8))).expect("in one group");
                let scope = |with_op: bool| Scope {
                    basins: set_for(basin.as_str(), row),
                    streams: set_for(stream.as_str(), row),
                    access_tokens: set_for(token.as_str(), row),
                    op_groups: OpGroups::from_bits(if with_op && by_group { 1 << group } else { 0 }).expect("valid"),
                    ops: if with_op && !by_group { Operations::of(&[op]) } else { Operations::NONE },
                };
                for on in [
                    On { basin: Some(&basin), ..On::default() },
                    On { basin: Some(&basin), stream: Some(&stream), ..On::default() },
                    On { token: Some(&token), ..On::default() },
                ] {
                    assert_eq!(scope(true).permits(op, on), row.2, "{op:?} on {on:?} with {row:?}");
                    assert!(!scope(false).permits(op, on));
                }
                assert!(scope(true).permits(op, On::default()), "without a name, the operation decides");
                let others = Operation::ALL.into_iter().filter(|other| *other != op);
                assert!(by_group || others.into_iter().all(|other| !scope(true).permits(other, On::default())));
            }
        }
    }
}

#[test]
fn a_set_is_within_another_when_all_its_names_are() {
    for (ours, theirs, expected) in [
        (exact("a"), exact("a"), true),
        (exact("a"), exact("b"), false),
        (exact("ab"), prefix("a"), true),
        (exact("b"), prefix("a"), false),
        (exact(""), exact("b"), true),
        (exact(""), prefix("b"), true),
        (prefix("ab"), prefix("a"), true),
        (prefix("a"), prefix("ab"), false),
        (prefix(""), prefix(""), true),
        (prefix(""), prefix("a"), false),
        (prefix("a"), exact("a"), false),
        (prefix("a"), exact(""), false),
    ] {
        assert_eq!(ours.is_within(&theirs), expected, "{ours:?} in {theirs:?}");
    }
}

#[test]
fn nobody_gives_more_than_they_have() {
    let issuer = Scope {
        basins: Some(prefix("team-")),
        streams: Some(prefix("logs/")),
        access_tokens: None,
        op_groups: OpGroups { stream: ReadWrite { read: true, write: false }, ..OpGroups::default() },
        ops: Operations::of(&[Operation::IssueAccessToken]),
    };
    assert_eq!(issuer.check_within(&issuer), Ok(()));
    assert_eq!(issuer.check_within(&Scope::all()), Ok(()));
    let ours = Scope { op_groups: OpGroups::default(), ops: Operations::of(&[Operation::Read]), ..issuer.clone() };
    assert_eq!(ours.check_within(&issuer), Ok(()), "an operation of a group may be given by itself");
    for more in [
        Scope { ops: Operations::of(&[Operation::Append]), ..issuer.clone() },
        Scope {
            op_groups: OpGroups { stream: ReadWrite { read: true, write: true }, ..OpGroups::default() },
            ..issuer.clone()
        },
        Scope { basins: Some(prefix("team")), ..issuer.clone() },
        Scope { streams: Some(exact("log")), ..issuer.clone() },
        Scope { streams: Some(ResourceSet::all()), ..issuer.clone() },
        Scope { access_tokens: Some(exact("a")), ..issuer.clone() },
        Scope::all(),
    ] {
        assert!(matches!(more.check_within(&issuer), Err(ScopeError::Exceeds(_))), "{more:?}");
    }
    assert_eq!(Scope { access_tokens: Some(exact("")), ..issuer.clone() }.check_within(&issuer), Ok(()));
}

#[test]
fn a_scope_that_makes_no_sense_is_refused() {
    let empty = Scope { basins: Some(ResourceSet::all()), ..Scope::default() };
    assert_eq!(empty.check(false), Err(ScopeError::Invalid("Access token permissions cannot be empty")));
    let reads = |streams| Scope { streams, ops: Operations::of(&[Operation::Read]), ..Scope::default() };
    let why = "Auto prefixing is only allowed for streams with prefix matching";
    for (streams, is_fine) in [(None, false), (Some(exact("a")), false), (Some(prefix("a/")), true)] {
        assert_eq!(reads(streams.clone()).check(false), Ok(()));
        assert_eq!(reads(streams).check(true), if is_fine { Ok(()) } else { Err(ScopeError::Invalid(why)) });
    }
}

#[test]
fn ids_and_sets_keep_the_rules_of_names() {
    for good in ["a", "a/b c", "...", &"x".repeat(96)] {
        assert!(TokenId::try_from(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "..", "a\0", &"x".repeat(97)] {
        assert!(TokenId::try_from(bad).is_err(), "{bad:?}");
    }
    assert!(exact("").of_basins().is_ok() && prefix("").of_basins().is_ok() && exact("my-basin").of_basins().is_ok());
    assert!(exact("short").of_basins().is_err() && prefix("-").of_basins().is_err());
    assert!(exact("..").of_streams().is_err() && prefix("..").of_streams().is_ok());
    assert!(prefix(&"x".repeat(513)).of_streams().is_err() && prefix(&"x".repeat(97)).of_tokens().is_err());
}

#[test]
fn a_hash_is_not_shown() {
    let shown = format!("{:?}", SecretHash([0xab; 32]));
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab"), "{shown}");
}
