//! Names that have a part in common, which clippy would have left out.

use heck::ToSnakeCase;

/// Fewer than this many names may have whatever in common.
const FEW: usize = 3;

/// Whether all of `names` start or end with the same word, or one of them does with the name of what they are in.
pub(super) fn repeat(inside: &str, names: &[String]) -> bool {
    let names: Vec<String> = names.iter().map(|name| name.to_snake_case()).collect();
    let inside = inside.to_snake_case();
    let same = |word: fn(&str) -> Option<&str>| {
        names.iter().all(|name| word(name) == names.first().and_then(|first| word(first)))
    };
    names.len() >= FEW
        && (same(|name| name.split('_').next())
            || same(|name| name.rsplit('_').next())
            || names.iter().any(|name| name.starts_with(&inside) || name.ends_with(&inside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_common_are_found() {
        for (inside, names, expected) in [
            ("Item", vec!["first_id", "last_id", "id"], true),
            ("Item", vec!["max_a", "max_b", "max_c"], true),
            ("Item", vec!["max_a", "max_b"], false),
            ("Item", vec!["a", "b", "item_c"], true),
            ("Kind", vec!["One", "Two", "OtherKind"], true),
            ("Item", vec!["a", "b", "c"], false),
        ] {
            let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
            assert_eq!(repeat(inside, &names), expected, "{names:?}");
        }
    }
}
