//! Which processes a [`ProcessFilter`] means: [`Matcher`] is the filter, checked and compiled.
//!
//! Pure; it must not know where records come from.

use globset::{GlobBuilder, GlobMatcher};

use crate::proto::{ProcessFilter, ProcessRecord};

/// Tells the processes that a filter means from all others.
#[derive(Debug)]
pub struct Matcher {
    names: Vec<String>,
    pids: Vec<u32>,
    executable: Option<GlobMatcher>,
}

/// A filter that means nothing.
#[derive(Debug, thiserror::Error)]
#[error("executable_pattern '{pattern}' is no glob: {reason}; write it like /usr/bin/* or **/python3")]
pub struct FilterError {
    pattern: String,
    reason: globset::ErrorKind,
}

impl Matcher {
    /// Compiles a filter.
    ///
    /// # Errors
    ///
    /// [`FilterError`] when its `executable_pattern` is not a valid glob.
    pub fn new(filter: &ProcessFilter) -> Result<Self, FilterError> {
        let executable = match &filter.executable_pattern {
            None => None,
            Some(pattern) => Some(compile(pattern)?),
        };
        Ok(Self { names: filter.process_names.clone(), pids: filter.pids.clone(), executable })
    }

    /// Whether the filter means this process.
    #[must_use]
    pub fn matches(&self, record: &ProcessRecord) -> bool {
        (self.names.is_empty() || self.names.contains(&record.name))
            && (self.pids.is_empty() || self.pids.contains(&record.pid))
            && self
                .executable
                .as_ref()
                .is_none_or(|glob| record.executable_path.as_deref().is_some_and(|path| glob.is_match(path)))
    }
}

fn compile(pattern: &str) -> Result<GlobMatcher, FilterError> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .case_insensitive(cfg!(windows))
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| FilterError { pattern: pattern.to_owned(), reason: error.kind().clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, name: &str, executable: Option<&str>) -> ProcessRecord {
        ProcessRecord {
            pid,
            name: name.into(),
            executable_path: executable.map(Into::into),
            ..Default::default()
        }
    }

    fn matching(filter: &ProcessFilter) -> Vec<u32> {
        let matcher = Matcher::new(filter).unwrap();
        [
            process(1, "init", Some("/usr/lib/systemd/systemd")),
            process(2, "kthreadd", None),
            process(30, "sh", Some("/usr/bin/dash")),
            process(31, "sh", Some("/opt/tools/bin/sh")),
        ]
        .iter()
        .filter(|record| matcher.matches(record))
        .map(|record| record.pid)
        .collect()
    }

    fn pattern(pattern: &str) -> ProcessFilter {
        ProcessFilter { executable_pattern: Some(pattern.into()), ..Default::default() }
    }

    #[test]
    fn an_empty_filter_means_all() {
        assert_eq!(matching(&ProcessFilter::default()), [1, 2, 30, 31]);
    }

    #[test]
    fn one_of_several_names_or_ids_is_enough() {
        let names = vec!["sh".into(), "init".into()];
        assert_eq!(matching(&ProcessFilter { process_names: names, ..Default::default() }), [1, 30, 31]);
        assert_eq!(matching(&ProcessFilter { pids: vec![2, 31, 99], ..Default::default() }), [2, 31]);
    }

    #[test]
    fn a_star_stays_in_its_folder_and_two_do_not() {
        assert_eq!(matching(&pattern("/usr/*/dash")), [30]);
        assert_eq!(matching(&pattern("/usr/*")), [] as [u32; 0]);
        assert_eq!(matching(&pattern("/usr/**")), [1, 30]);
        assert_eq!(matching(&pattern("**/sh")), [31]);
    }

    #[test]
    fn all_criteria_must_hold() {
        let both = ProcessFilter { process_names: vec!["sh".into()], ..pattern("/usr/**") };
        assert_eq!(matching(&both), [30]);
        assert_eq!(matching(&ProcessFilter { pids: vec![31], ..both }), [] as [u32; 0]);
    }

    #[test]
    fn a_broken_glob_is_named_with_its_remedy() {
        assert_eq!(
            Matcher::new(&pattern("/usr/[a")).unwrap_err().to_string(),
            "executable_pattern '/usr/[a' is no glob: unclosed character class; missing ']'; \
             write it like /usr/bin/* or **/python3"
        );
    }
}
