//! Listings show what is in the scope of the token that asks, and nothing else.

use api::query::ListQuery;
use model::NamePrefix;
use model::token::ResourceSet;

/// What of a page may be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing.
    Nothing,
    /// This page.
    Page(ListQuery),
    /// At most the one with exactly this name.
    One(NamePrefix),
}

/// The part of `page` that lies in `set`. Pages of a prefix are pages again, so `has_more` needs no second look.
#[must_use]
pub(crate) fn narrow(set: Option<&ResourceSet>, page: ListQuery, of: impl Fn(&str) -> NamePrefix) -> Shown {
    match set {
        None => Shown::Nothing,
        Some(ResourceSet::Exact(name)) => {
            let is_in_page = name.starts_with(page.prefix.as_str()) && **name > *page.start_after.as_str();
            if name.is_empty() || !is_in_page { Shown::Nothing } else { Shown::One(of(name)) }
        }
        Some(ResourceSet::Prefix(prefix)) if page.prefix.as_str().starts_with(&**prefix) => Shown::Page(page),
        Some(ResourceSet::Prefix(prefix)) if prefix.starts_with(page.prefix.as_str()) => {
            Shown::Page(ListQuery { prefix: of(prefix), ..page })
        }
        Some(ResourceSet::Prefix(_)) => Shown::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> NamePrefix {
        NamePrefix::of_stream(name).expect("valid")
    }

    #[test]
    fn a_page_is_narrowed_to_the_set() {
        let page =
            |prefix: &str, start_after: &str| ListQuery { prefix: of(prefix), start_after: of(start_after), limit: 5 };
        let exact = |name: &str| Some(ResourceSet::Exact(name.into()));
        let prefix = |name: &str| Some(ResourceSet::Prefix(name.into()));
        for (set, asked, expected) in [
            (None, page("", ""), Shown::Nothing),
            (exact(""), page("", ""), Shown::Nothing),
            (exact("ab"), page("a", ""), Shown::One(of("ab"))),
            (exact("ab"), page("b", ""), Shown::Nothing),
            (exact("ab"), page("", "ab"), Shown::Nothing),
            (exact("ab"), page("", "aa"), Shown::One(of("ab"))),
            (prefix(""), page("a", "b"), Shown::Page(page("a", "b"))),
            (prefix("a"), page("ab", "abc"), Shown::Page(page("ab", "abc"))),
            (prefix("ab"), page("a", "x"), Shown::Page(page("ab", "x"))),
            (prefix("ab"), page("b", ""), Shown::Nothing),
        ] {
            assert_eq!(narrow(set.as_ref(), asked, of), expected, "{set:?}");
        }
    }
}
