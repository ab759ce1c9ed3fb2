//! Compiles `.proto` files with protox, or reads what `protoc` compiled.
//!
//! Owns the reading of files and what is said about a schema that can't be compiled. Must not know about Rust code.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use prost_types::FileDescriptorSet;
use protox::Compiler;

use super::editions;
use super::imports::Imports;
use crate::error::Error;

/// A compiled schema.
pub(super) struct Schema {
    /// Its files, imports first.
    pub(super) set: FileDescriptorSet,
    /// The same, encoded, with the options that `set` doesn't know.
    pub(super) encoded: Vec<u8>,
    /// The files that were read.
    pub(super) read: Vec<PathBuf>,
}

/// Compiles `protos`, looking for them and for what they import in `includes`.
///
/// # Errors
/// What protox says about each of `protos`, with file and line.
pub(super) fn compile(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<Schema, Error> {
    let given_more = Rc::new(RefCell::new(Vec::new()));
    let mut compiler = Compiler::with_file_resolver(Imports::of(includes, Rc::clone(&given_more)));
    compiler.include_imports(true).include_source_info(true);
    let mut said = BTreeSet::new();
    for proto in protos {
        if let Err(error) = compiler.open_file(proto) {
            said.insert(explained(&error));
        }
    }
    if !said.is_empty() {
        return Err(Error::messages(said));
    }
    let mut read: Vec<_> = compiler.files().filter_map(|file| file.path().map(Path::to_owned)).collect();
    read.append(&mut given_more.borrow_mut());
    Ok(Schema { set: compiler.file_descriptor_set(), encoded: compiler.encode_file_descriptor_set(), read })
}

/// Reads a set of descriptors, as `protoc --descriptor_set_out` writes it.
///
/// # Errors
/// The file can't be read, or isn't a set of descriptors.
pub(super) fn read(path: &Path) -> Result<Schema, Error> {
    let encoded =
        fs::read(path).map_err(|error| Error::io(format_args!("can't read `{}`", path.display()), error))?;
    let set = editions::decode(&encoded).map_err(|error| {
        Error::message(format!(
            "{}: not a set of descriptors: {error}\n  help: write it with `protoc --include_imports \
             --include_source_info --descriptor_set_out={0} …`",
            path.display()
        ))
    })?;
    Ok(Schema { set, encoded, read: vec![path.to_owned()] })
}

fn explained(error: &protox::Error) -> String {
    // Its Debug form is the one with the line.
    let text = format!("{error:?}");
    let said = error.to_string();
    let remedy = if said.contains("'edition'") {
        "editions can't be read; write the file with `syntax = \"proto3\"`, or compile it with `protoc` and give its \
         descriptor set to `.compile_descriptor_set(\"…\")`"
    } else if error.is_file_not_found() {
        "add the directory that it's in to the includes; paths in a schema start at one of them"
    } else {
        return text;
    };
    format!("{text}\n  help: {remedy}")
}
