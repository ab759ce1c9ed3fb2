//! Which items of a schema an option is for, as prost-build has it.

/// Values for parts of a schema.
pub(super) struct PathMap<T>(Vec<(String, T)>);

impl<T> Default for PathMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> PathMap<T> {
    pub(super) fn insert(&mut self, pattern: impl AsRef<str>, value: T) {
        self.0.push((pattern.as_ref().to_owned(), value));
    }

    /// The values for an item, by its full path with a dot in front, in the order in which they were given.
    pub(super) fn get<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a T> {
        self.0.iter().filter(move |(pattern, _)| matches(pattern, path)).map(|(_, value)| value)
    }

    /// The value for exactly this item.
    pub(super) fn get_exact(&self, path: &str) -> Option<&T> {
        let is_it =
            |pattern: &str| path.strip_prefix('.') == Some(pattern.strip_prefix('.').unwrap_or(pattern));
        self.0.iter().rev().find(|(pattern, _)| is_it(pattern)).map(|(_, value)| value)
    }
}

/// `.` is everything; a path with a dot in front is an item and all that's in it; one without is the end of a path.
fn matches(pattern: &str, path: &str) -> bool {
    let inside = |rest: &str| rest.is_empty() || rest.starts_with('.');
    pattern == "."
        || if pattern.starts_with('.') {
            path.strip_prefix(pattern).is_some_and(inside)
        } else {
            path.strip_suffix(pattern).is_some_and(|rest| rest.ends_with('.'))
        }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_prost_build() {
        for (pattern, path, expected) in [
            (".", ".a.b.C", true),
            (".a.b.C", ".a.b.C", true),
            (".a.b", ".a.b.C", true),
            (".a.b", ".a.bc.C", false),
            ("C", ".a.b.C", true),
            ("b.C", ".a.b.C", true),
            ("C", ".a.b.DC", false),
            ("a.b", ".a.b.C", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
