//! From `.proto` files to Rust files: the front end of build scripts.
//!
//! Owns the order of the steps, [`generate`]. Must not know how any of them is done, how options are given ([`config`]),
//! nor where schemas come from and files go ([`output`], [`plugin`]).

mod btree;
mod comments;
mod config;
mod convert;
mod editions;
mod fingerprint;
mod imports;
mod lints;
mod markdown;
mod messages;
mod names;
mod options;
mod output;
mod paths;
mod plugin;
mod render;
mod schema;

use std::collections::BTreeMap;
use std::path::Path;

use proc_macro2::TokenStream;
use prost_build::Module;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use self::comments::Comments;
pub use self::config::Config;
use self::convert::Converter;
use self::names::{Names, Rules};
use self::options::Options;
pub use self::plugin::protoc_plugin;
use crate::error::{Error, Mistake};
use crate::model::Package;

/// Generates code for `protos` with all defaults, into the build script's `OUT_DIR`. `includes` are the directories
/// in which the paths of `import`s start.
///
/// # Errors
/// Everything that is wrong with the schema, with files and remedies; or a file can't be read or written.
pub fn compile_protos(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    configure().compile_protos(protos, includes)
}

/// Generates code with options.
#[must_use]
pub fn configure() -> Config {
    Config::default()
}

/// The text of each module.
fn generate(
    mut set: FileDescriptorSet,
    prost: prost_build::Config,
    mut options: Options,
) -> Result<BTreeMap<Module, String>, Error> {
    accepted(std::mem::take(&mut options.mistakes))?;
    let rules = Rules {
        external: &options.external,
        retain_enum_prefix: options.retain_enum_prefix,
        nested: options.nested,
    };
    let names = Names::find(&set.file, &rules)?;
    let fingerprints = fingerprint::all(&set.file);
    let comments = Comments::take(&mut set);
    let (sources, files) =
        (sources(&set.file), set.file.iter().map(|file| file.name().to_owned()).collect::<Vec<_>>());

    let messages = messages::generate(prost, set.file)?;
    let converter = Converter {
        options: &options,
        comments: &comments,
        names: &names,
        fingerprints: &fingerprints,
        files: &files,
        mistakes: Vec::new(),
    };
    let mut stubs = expand(&converter.packages(messages.services)?)?;

    let mut texts = BTreeMap::new();
    for (module, text) in messages.modules {
        let stubs = stubs.remove(&module).unwrap_or_default();
        let sources = sources.get(&module).map_or(&[][..], Vec::as_slice);
        if options.wants(sources) {
            let text = render::module(&module, sources, &comments.restore(&text), stubs)?;
            texts.insert(module, text);
        }
    }
    Ok(texts)
}

/// The stubs of each module, or what is wrong with any of them.
fn expand(packages: &BTreeMap<Module, Package>) -> Result<BTreeMap<Module, TokenStream>, Error> {
    let mut stubs = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (module, package) in packages {
        match crate::expand(package) {
            Ok(tokens) => drop(stubs.insert(module.clone(), tokens)),
            Err(more) => mistakes.extend(more),
        }
    }
    accepted(mistakes).map(|()| stubs)
}

fn accepted(mistakes: Vec<Mistake>) -> Result<(), Error> {
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes.into()) }
}

/// The files that declare something, by the module in which it ends up.
fn sources(files: &[FileDescriptorProto]) -> BTreeMap<Module, Vec<String>> {
    let mut sources: BTreeMap<Module, Vec<String>> = BTreeMap::new();
    for file in files {
        if !(file.message_type.is_empty() && file.enum_type.is_empty() && file.service.is_empty()) {
            let module = Module::from_protobuf_package_name(file.package());
            sources.entry(module).or_default().push(file.name().to_owned());
        }
    }
    sources
}
