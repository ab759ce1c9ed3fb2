//! What is wrong with a schema, a trait or a build: diagnostics that say where, what, and what to do.
//!
//! Owns how a diagnostic reads. Must not know what is checked, or by whom.

use std::fmt;

use proc_macro2::Span;

/// Something wrong with the description of a service.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// The place in Rust source, where the service came from a trait.
    pub span: Option<Span>,
    /// The schema file.
    pub file: Option<String>,
    /// The service, method or message, as it's called in the schema: ``service `a.B`, method `C` ``.
    pub subject: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Mistake {
    /// A mistake without a place.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { span: None, file: None, subject: None, problem: problem.into(), remedy: remedy.into() }
    }

    /// Says where in Rust source.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    /// Says in which schema file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Says what it is about.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(&self.problem)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n  help: {}", self.remedy) }
    }
}

/// Why no code was generated. Its text lists everything that is wrong, not the first thing alone.
pub struct Error {
    diagnostics: Vec<String>,
    source: Option<std::io::Error>,
}

impl Error {
    /// Each thing that is wrong, as text that names the file, the service, the method, and the remedy.
    #[must_use]
    pub fn diagnostics(&self) -> &[String] {
        &self.diagnostics
    }
}

#[cfg(feature = "proto")]
impl Error {
    pub(crate) fn messages(texts: impl IntoIterator<Item = String>) -> Self {
        Self { diagnostics: texts.into_iter().collect(), source: None }
    }

    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self { diagnostics: vec![text.into()], source: None }
    }

    pub(crate) fn io(doing: impl fmt::Display, source: std::io::Error) -> Self {
        Self { diagnostics: vec![format!("{doing}: {source}")], source: Some(source) }
    }
}

impl From<Vec<Mistake>> for Error {
    fn from(mistakes: Vec<Mistake>) -> Self {
        Self { diagnostics: mistakes.iter().map(ToString::to_string).collect(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostics.join("\n"))
    }
}

/// The same text, for Rust shows this form when a build script's `main` returns the error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
