//! The options that are ours and not prost-build's.
//!
//! Owns their storage and the reading of what users give as text. Must not know how they are given
//! ([`Config`](super::Config)).

use syn::parse::Parser as _;
use syn::{Attribute, Ident, Path, parse_quote};

use super::paths::PathMap;
use crate::error::Mistake;
use crate::model::Parts;

/// What to generate, and how.
pub(super) struct Options {
    pub(super) parts: Parts,
    /// Where `typed-ipc-runtime` is found.
    pub(super) runtime: Path,
    pub(super) default_stubs: bool,
    pub(super) trait_attributes: PathMap<Vec<Attribute>>,
    pub(super) method_attributes: PathMap<Vec<Attribute>>,
    pub(super) client_attributes: PathMap<Vec<Attribute>>,
    pub(super) client_item_attributes: PathMap<Vec<Attribute>>,
    pub(super) server_attributes: PathMap<Vec<Attribute>>,
    pub(super) server_item_attributes: PathMap<Vec<Attribute>>,
    pub(super) service_names: PathMap<String>,
    pub(super) method_names: PathMap<String>,
    pub(super) without_comments: PathMap<()>,
    /// Schema paths of types that are not generated.
    pub(super) external: Vec<String>,
    pub(super) retain_enum_prefix: bool,
    /// Whether a file includes all others, in modules like their packages.
    pub(super) nested: bool,
    /// The schema's files whose modules are wanted, unless all are.
    pub(super) wanted: Option<Vec<String>>,
    /// What was given to an option and can't be used.
    pub(super) mistakes: Vec<Mistake>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parts: Parts { service_trait: true, client: true, server: true },
            runtime: parse_quote!(::ipc_runtime),
            default_stubs: false,
            trait_attributes: PathMap::default(),
            method_attributes: PathMap::default(),
            client_attributes: PathMap::default(),
            client_item_attributes: PathMap::default(),
            server_attributes: PathMap::default(),
            server_item_attributes: PathMap::default(),
            service_names: PathMap::default(),
            method_names: PathMap::default(),
            without_comments: PathMap::default(),
            external: vec![".google.protobuf".to_owned()],
            retain_enum_prefix: false,
            nested: false,
            wanted: None,
            mistakes: Vec::new(),
        }
    }
}

impl Options {
    /// Whether the module made from these files is wanted.
    pub(super) fn wants(&self, sources: &[String]) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| sources.iter().any(|source| wanted.contains(source)))
    }

    /// The lines for an item, unless comments are disabled there.
    pub(super) fn documentation(&self, path: &str, lines: &[String]) -> Vec<String> {
        if self.without_comments.get(path).next().is_some() { Vec::new() } else { lines.to_vec() }
    }

    /// Reads attributes; where they aren't any, that is a mistake, and there are none.
    pub(super) fn attributes(&mut self, option: &str, text: &str) -> Vec<Attribute> {
        Attribute::parse_outer.parse_str(text).unwrap_or_else(|error| {
            let problem = format!("`.{option}(…, {text:?})` gives no attributes: {error}");
            self.mistakes
                .push(Mistake::new(problem, "write them as above an item: `#[derive(Eq)] #[cfg(unix)]`"));
            Vec::new()
        })
    }

    /// Reads the path of a crate; where it isn't one that is the same in every module, that is a mistake.
    pub(super) fn crate_path(&mut self, option: &str, text: &str) -> Path {
        let path = syn::parse_str::<Path>(text).ok().filter(|path| {
            path.leading_colon.is_some() || path.segments.first().is_some_and(|first| first.ident == "crate")
        });
        path.unwrap_or_else(|| {
            let problem = format!("`.{option}({text:?})` gives no path that every module knows");
            let remedy = "start it at a crate: `::runtime`, `::my_sdk::ipc_runtime`, `crate::ipc_runtime`";
            self.mistakes.push(Mistake::new(problem, remedy));
            parse_quote!(::ipc_runtime)
        })
    }

    /// Reads a name; where it isn't one, that is a mistake.
    pub(super) fn name(&mut self, option: &str, path: &str, name: &str) -> String {
        if syn::parse_str::<Ident>(name).is_err() {
            let problem = format!("`.{option}({path:?}, {name:?})` gives no name that Rust can use");
            self.mistakes
                .push(Mistake::new(problem, "give an identifier, with `r#` before it where it's a keyword"));
            return "nameless".to_owned();
        }
        name.to_owned()
    }
}
