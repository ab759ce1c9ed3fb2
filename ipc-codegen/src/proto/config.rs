//! How options are given.
//!
//! Owns the builder. Must not know what the options do; [`output`](super::output) has the functions that end it.

use std::env;
use std::path::PathBuf;

use super::options::Options;

/// Options of code generation, made by [`configure`](crate::configure). They are named as those of `prost-build` and
/// `tonic-build`, and a `path` means what it means there: `.` everything, `.a.b` an item and all in it, `b.C` whatever
/// ends in it.
pub struct Config {
    pub(super) options: Options,
    pub(super) prost: prost_build::Config,
    /// Applied to `prost` last, so that they hold for a configuration that is passed in as well.
    pub(super) changes: Vec<Change>,
    pub(super) out_dir: Option<PathBuf>,
    pub(super) include_file: Option<PathBuf>,
    pub(super) default_package_filename: String,
    pub(super) file_descriptor_set_path: Option<PathBuf>,
    pub(super) emit_rerun_if_changed: bool,
}

pub(super) type Change = Box<dyn FnOnce(&mut prost_build::Config)>;

impl Default for Config {
    fn default() -> Self {
        let mut prost = prost_build::Config::new();
        tell_runtime(&mut prost, "::ipc_runtime").bytes(["."]);
        Self {
            options: Options::default(),
            prost,
            changes: Vec::new(),
            out_dir: None,
            include_file: None,
            default_package_filename: "_".to_owned(),
            file_descriptor_set_path: None,
            // Only Cargo's build scripts have it, and only they are read by Cargo.
            emit_rerun_if_changed: env::var_os("OUT_DIR").is_some(),
        }
    }
}

/// What is generated, and where.
impl Config {
    /// Writes to this directory instead of the build script's `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.out_dir = Some(directory.into());
        self
    }

    /// Also writes a file that includes all others, each in a module like its package.
    #[must_use]
    pub fn include_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.include_file = Some(path.into());
        self.options.nested = true;
        self
    }

    /// The file for schemas without a package, without `.rs`; `_` unless told.
    #[must_use]
    pub fn default_package_filename(mut self, name: impl Into<String>) -> Self {
        self.default_package_filename = name.into();
        self
    }

    /// Also writes the compiled schema, for reflection: an encoded `FileDescriptorSet`.
    #[must_use]
    pub fn file_descriptor_set_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.file_descriptor_set_path = Some(path.into());
        self
    }

    /// Whether to tell Cargo which files were read. On in a build script unless told.
    #[must_use]
    pub fn emit_rerun_if_changed(mut self, enable: bool) -> Self {
        self.emit_rerun_if_changed = enable;
        self
    }

    /// Finds `typed-ipc-runtime` at another path than `::ipc_runtime`: `::runtime` where a dependency is called that,
    /// `::my_sdk::ipc_runtime` where a library exports it. Messages then find prost there as well.
    #[must_use]
    pub fn runtime_path(mut self, path: impl AsRef<str>) -> Self {
        let path = path.as_ref().to_owned();
        self.options.runtime = self.options.crate_path("runtime_path", &path);
        self.tell(move |prost| tell_runtime(prost, &path))
    }

    /// Whether to generate clients. On unless told.
    #[must_use]
    pub fn build_client(mut self, enable: bool) -> Self {
        self.options.parts.client = enable;
        self
    }

    /// Whether to generate servers and the traits they serve. On unless told.
    #[must_use]
    pub fn build_server(mut self, enable: bool) -> Self {
        self.options.parts.server = enable;
        self.options.parts.service_trait = enable;
        self
    }

    /// Whether methods of traits get a body that answers `UNIMPLEMENTED`, so that a service can grow without breaking
    /// those who implement it. Off unless told.
    #[must_use]
    pub fn generate_default_stubs(mut self, enable: bool) -> Self {
        self.options.default_stubs = enable;
        self
    }

    /// Takes no comments over for these paths.
    #[must_use]
    pub fn disable_comments<S: AsRef<str>>(mut self, paths: impl IntoIterator<Item = S>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        for path in &paths {
            self.options.without_comments.insert(path, ());
        }
        self.tell(move |prost| prost.disable_comments(paths))
    }
}

/// Names, and attributes of stubs.
impl Config {
    /// Calls the trait of the service at `path`, `.greeter.v1.Greeter`, by another name, and the client and the server
    /// after it. Nothing changes on the wire.
    #[must_use]
    pub fn rename_service(mut self, path: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        let name = self.options.name("rename_service", path.as_ref(), name.as_ref());
        self.options.service_names.insert(path, name);
        self
    }

    /// Calls the function of the method at `path`, `.greeter.v1.Greeter.SayHello`, by another name. Nothing changes on
    /// the wire.
    #[must_use]
    pub fn rename_method(mut self, path: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        let name = self.options.name("rename_method", path.as_ref(), name.as_ref());
        self.options.method_names.insert(path, name);
        self
    }

    /// Adds an attribute to traits.
    #[must_use]
    pub fn trait_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        let attributes = self.options.attributes("trait_attribute", attribute.as_ref());
        self.options.trait_attributes.insert(path, attributes);
        self
    }

    /// Adds an attribute to the functions of traits and clients, by the path of the service or of the method.
    #[must_use]
    pub fn method_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        let attributes = self.options.attributes("method_attribute", attribute.as_ref());
        self.options.method_attributes.insert(path, attributes);
        self
    }

    /// Adds an attribute to the structs of clients.
    #[must_use]
    pub fn client_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        let attributes = self.options.attributes("client_attribute", attribute.as_ref());
        self.options.client_attributes.insert(path, attributes);
        self
    }

    /// Adds an attribute to every item of clients, such as `#[cfg(feature = "client")]` or `#[allow(dead_code)]`.
    #[must_use]
    pub fn client_mod_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        let attributes = self.options.attributes("client_mod_attribute", attribute.as_ref());
        self.options.client_item_attributes.insert(path, attributes);
        self
    }

    /// Adds an attribute to the structs of servers.
    #[must_use]
    pub fn server_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        let attributes = self.options.attributes("server_attribute", attribute.as_ref());
        self.options.server_attributes.insert(path, attributes);
        self
    }

    /// Adds an attribute to traits and to every item of servers, such as `#[cfg(feature = "server")]`.
    #[must_use]
    pub fn server_mod_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        let attributes = self.options.attributes("server_mod_attribute", attribute.as_ref());
        self.options.server_item_attributes.insert(path, attributes);
        self
    }
}

/// Messages: what prost-build is told.
impl Config {
    /// Adds an attribute to messages, enums and oneofs.
    #[must_use]
    pub fn type_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.options.attributes("type_attribute", attribute.as_ref());
        let (path, attribute) = owned(path, attribute);
        self.tell(move |prost| prost.type_attribute(path, attribute))
    }

    /// Adds an attribute to messages.
    #[must_use]
    pub fn message_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.options.attributes("message_attribute", attribute.as_ref());
        let (path, attribute) = owned(path, attribute);
        self.tell(move |prost| prost.message_attribute(path, attribute))
    }

    /// Adds an attribute to enums and oneofs.
    #[must_use]
    pub fn enum_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.options.attributes("enum_attribute", attribute.as_ref());
        let (path, attribute) = owned(path, attribute);
        self.tell(move |prost| prost.enum_attribute(path, attribute))
    }

    /// Adds an attribute to fields.
    #[must_use]
    pub fn field_attribute(mut self, path: impl AsRef<str>, attribute: impl AsRef<str>) -> Self {
        self.options.attributes("field_attribute", attribute.as_ref());
        let (path, attribute) = owned(path, attribute);
        self.tell(move |prost| prost.field_attribute(path, attribute))
    }

    /// Takes the types of a package, `.a.b`, or one type, `.a.b.C`, from elsewhere: `::a::b`, `::a::b::C`. Nothing is
    /// generated for them.
    #[must_use]
    pub fn extern_path(mut self, proto_path: impl Into<String>, rust_path: impl Into<String>) -> Self {
        let (proto_path, rust_path) = (proto_path.into(), rust_path.into());
        self.options.external.push(proto_path.clone());
        self.tell(move |prost| prost.extern_path(proto_path, rust_path))
    }

    /// Generates `google.protobuf` as well, instead of taking it from `prost-types`.
    #[must_use]
    pub fn compile_well_known_types(mut self) -> Self {
        self.options.external.retain(|path| path != ".google.protobuf");
        self.tell(|prost| prost.compile_well_known_types())
    }

    /// `bytes` fields that are `bytes::Bytes`, which takes no copy from the frame; all unless told. Others are `Vec<u8>`.
    #[must_use]
    pub fn bytes<S: AsRef<str>>(self, paths: impl IntoIterator<Item = S>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        self.tell(move |prost| prost.bytes(paths))
    }

    /// `map` fields that are `BTreeMap`. None unless told; others are `HashMap`. `Debug` shows enums of a message with
    /// such a field as numbers.
    #[must_use]
    pub fn btree_map<S: AsRef<str>>(self, paths: impl IntoIterator<Item = S>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        self.tell(move |prost| prost.btree_map(paths))
    }

    /// Boxes fields.
    #[must_use]
    pub fn boxed(self, path: impl AsRef<str>) -> Self {
        let path = path.as_ref().to_owned();
        self.tell(move |prost| prost.boxed(path))
    }

    /// Leaves the name of an enum in front of its values.
    #[must_use]
    pub fn retain_enum_prefix(mut self) -> Self {
        self.options.retain_enum_prefix = true;
        self.tell(|prost| prost.retain_enum_prefix())
    }

    /// Implements `prost::Name` for messages.
    #[must_use]
    pub fn enable_type_names(self) -> Self {
        self.tell(|prost| prost.enable_type_names())
    }

    /// Generates no `Debug` for these types.
    #[must_use]
    pub fn skip_debug<S: AsRef<str>>(self, paths: impl IntoIterator<Item = S>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
        self.tell(move |prost| prost.skip_debug(paths))
    }

    /// The way through to all of prost-build's other options. What says where files go and which services are generated
    /// has no effect there; this type has options of the same names.
    #[must_use]
    pub fn prost_config(mut self, change: impl FnOnce(&mut prost_build::Config) + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    fn tell<F>(self, option: F) -> Self
    where
        F: FnOnce(&mut prost_build::Config) -> &mut prost_build::Config + 'static,
    {
        self.prost_config(|prost| {
            option(prost);
        })
    }
}

/// Has messages named through the runtime at `path`.
fn tell_runtime<'a>(prost: &'a mut prost_build::Config, path: &str) -> &'a mut prost_build::Config {
    prost.prost_path(format!("{path}::codegen::prost"));
    prost.prost_types_path(format!("{path}::codegen::prost_types"))
}

fn owned(path: impl AsRef<str>, attribute: impl AsRef<str>) -> (String, String) {
    (path.as_ref().to_owned(), attribute.as_ref().to_owned())
}
