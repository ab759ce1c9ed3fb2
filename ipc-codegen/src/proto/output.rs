//! From a configuration to files: the functions that end a [`Config`].
//!
//! Owns where the schema comes from and where the code goes. Must not know how either is read or made.

use std::collections::BTreeMap;
use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::config::Config;
use super::schema::{self, Schema};
use super::{generate, render};
use crate::error::Error;

impl Config {
    /// Compiles `protos`, which are in `includes` or below, as are the files they import, and generates code for all.
    ///
    /// # Errors
    /// Everything that is wrong with the schema, with files and remedies; or a file can't be read or written.
    pub fn compile_protos(
        self,
        protos: &[impl AsRef<Path>],
        includes: &[impl AsRef<Path>],
    ) -> Result<(), Error> {
        self.compile(schema::compile(protos, includes)?)
    }

    /// As [`compile_protos`](Self::compile_protos), with prost-build's options already in `prost`. Nothing is changed
    /// in them but what this type was told: messages name `::prost`, for instance, and that has to be a dependency.
    ///
    /// # Errors
    /// As [`compile_protos`](Self::compile_protos).
    pub fn compile_with_config(
        mut self,
        prost: prost_build::Config,
        protos: &[impl AsRef<Path>],
        includes: &[impl AsRef<Path>],
    ) -> Result<(), Error> {
        self.prost = prost;
        self.compile_protos(protos, includes)
    }

    /// Generates code for a schema that others have compiled, with its imports.
    ///
    /// # Errors
    /// As [`compile_protos`](Self::compile_protos).
    pub fn compile_fds(self, set: FileDescriptorSet) -> Result<(), Error> {
        let encoded = set.encode_to_vec();
        self.compile(Schema { set, encoded, read: Vec::new() })
    }

    /// Generates code for a schema that `protoc` has compiled:
    /// `protoc --include_imports --include_source_info --descriptor_set_out=PATH …`.
    ///
    /// # Errors
    /// As [`compile_protos`](Self::compile_protos).
    pub fn compile_descriptor_set(self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.compile(schema::read(path.as_ref())?)
    }

    /// The files to write, by their paths in the output directory.
    pub(super) fn files(mut self, set: FileDescriptorSet) -> Result<BTreeMap<PathBuf, String>, Error> {
        for change in self.changes {
            change(&mut self.prost);
        }
        let mut files = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (module, text) in generate(set, self.prost, self.options)? {
            // A keyword is escaped in code alone: the package `a.type` is in the file `a.type.rs`.
            let name = module.to_file_name_or(&self.default_package_filename).replace("r#", "");
            files.insert(PathBuf::from(&name), text);
            names.insert(module, name);
        }
        if let Some(path) = self.include_file {
            files.insert(path, render::include_file(&names));
        }
        Ok(files)
    }

    fn compile(mut self, schema: Schema) -> Result<(), Error> {
        if self.emit_rerun_if_changed {
            tell_cargo(&schema.read)?;
        }
        let directory = self.out_dir.take().or_else(|| env::var_os("OUT_DIR").map(PathBuf::from));
        let directory = directory.ok_or_else(|| {
            Error::message(
                "there is no `OUT_DIR` outside of a build script\n  help: say where to with `.out_dir(\"…\")`",
            )
        })?;
        let descriptors = self.file_descriptor_set_path.take();
        let files = self.files(schema.set)?;
        if let Some(path) = descriptors {
            render::write(&path, &schema.encoded)?;
        }
        files.iter().try_for_each(|(path, text)| render::write(&directory.join(path), text.as_bytes()))
    }
}

fn tell_cargo(files: &[PathBuf]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    files
        .iter()
        .try_for_each(|file| writeln!(out, "cargo:rerun-if-changed={}", file.display()))
        .map_err(|error| Error::io("can't tell Cargo which files were read", error))
}
