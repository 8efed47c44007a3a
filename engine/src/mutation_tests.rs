//! Planted bugs are where they say, and one at a time.

use super::*;

#[test]
fn each_is_planted_in_the_file_it_names() {
    for mutation in Mutation::ALL {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(mutation.file());
        let source = std::fs::read_to_string(&path).expect("the file it names");
        assert!(source.contains(&format!("Mutation::{mutation:?}.is_on()")), "{mutation:?} is not in {path:?}");
    }
}

#[test]
fn one_at_a_time_is_on() {
    choose(Some(Mutation::AckBeforeDurable));
    assert!(Mutation::AckBeforeDurable.is_on() && !Mutation::ReadUncommitted.is_on());
    choose(None);
    assert!(!Mutation::AckBeforeDurable.is_on());
}
