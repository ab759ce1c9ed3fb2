//! The generator as a plugin of `protoc`, for those who keep generated code in their repository.
//!
//! Owns `protoc`'s request and response, and the options that fit into a command line. Must not know how code is
//! generated.

use prost::{DecodeError, Message};

use super::config::Config;
use super::{configure, editions};
use crate::error::Error;

/// Answers a `CodeGeneratorRequest` of `protoc` with a `CodeGeneratorResponse`. What is wrong with the schema stands in
/// the response, where `protoc` looks for it.
///
/// `protoc-gen-ipc` is this between standard input and standard output:
///
/// ```text
/// protoc -I proto --ipc_out=src/generated --ipc_opt=include_file=mod.rs greeter.proto
/// ```
///
/// Options are those of [`Config`], as `option=value`: `runtime_path`, `build_client`, `build_server`, `generate_default_stubs`,
/// `include_file`, `default_package_filename`, `disable_comments`, `bytes`, `btree_map`, `boxed`; and with two values,
/// as `option=path=value`: `extern_path`, `rename_service`, `rename_method`.
#[must_use]
pub fn protoc_plugin(request: &[u8]) -> Vec<u8> {
    let (error, file) = match respond(request) {
        Ok(file) => (None, file),
        Err(error) => (Some(error.to_string()), Vec::new()),
    };
    let (first, last) = KNOWN_EDITIONS;
    let response = Response {
        error,
        supported_features: Some(PROTO3_OPTIONAL | EDITIONS),
        minimum_edition: Some(first),
        maximum_edition: Some(last),
        file,
    };
    response.encode_to_vec()
}

fn respond(request: &[u8]) -> Result<Vec<File>, Error> {
    let undecodable = |error: DecodeError| Error::message(format!("that is no request of `protoc`: {error}"));
    let request = Request::decode(request).map_err(undecodable)?;
    let mut config = configured(request.parameter())?;
    config.options.wanted = Some(request.file_to_generate);
    let set = Set { file: request.proto_file }.encode_to_vec();
    let files = config.files(editions::decode(&set).map_err(undecodable)?)?;
    let file = |(path, content): (std::path::PathBuf, String)| File {
        name: Some(path.to_string_lossy().into_owned()),
        content: Some(content),
    };
    Ok(files.into_iter().map(file).collect())
}

/// The options in `--ipc_opt`; `protoc` puts commas between them.
fn configured(parameter: &str) -> Result<Config, Error> {
    let mut unknown = Vec::new();
    let mut config = configure();
    for option in parameter.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, "true"));
        config = match (name, value, value.split_once('=')) {
            ("build_client", "true" | "false", _) => config.build_client(value == "true"),
            ("build_server", "true" | "false", _) => config.build_server(value == "true"),
            ("generate_default_stubs", "true" | "false", _) => config.generate_default_stubs(value == "true"),
            ("runtime_path", ..) => config.runtime_path(value),
            ("include_file", ..) => config.include_file(value),
            ("default_package_filename", ..) => config.default_package_filename(value),
            ("disable_comments", ..) => config.disable_comments([value]),
            ("bytes", ..) => config.bytes([value]),
            ("btree_map", ..) => config.btree_map([value]),
            ("boxed", ..) => config.boxed(value),
            ("extern_path", _, Some((path, value))) => config.extern_path(path, value),
            ("rename_service", _, Some((path, value))) => config.rename_service(path, value),
            ("rename_method", _, Some((path, value))) => config.rename_method(path, value),
            _ => {
                unknown.push(format!(
                    "`--ipc_opt={option}` is no option\n  help: write `name=value`, or `extern_path=.a.b=::a::b`; the \
                     others need a build script"
                ));
                config
            }
        };
    }
    if unknown.is_empty() { Ok(config) } else { Err(Error::messages(unknown)) }
}

const PROTO3_OPTIONAL: u64 = 1;
const EDITIONS: u64 = 2;

/// The numbers of the first and the last edition that [`editions`] knows: 2023 and 2024.
const KNOWN_EDITIONS: (i32, i32) = (1000, 1001);

// What of `google/protobuf/compiler/plugin.proto` is needed. Descriptors stay encoded, for `prost-types` would drop
// what it doesn't know.

#[derive(Clone, PartialEq, Eq, Message)]
struct Request {
    #[prost(string, repeated, tag = "1")]
    file_to_generate: Vec<String>,
    #[prost(string, optional, tag = "2")]
    parameter: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "15")]
    proto_file: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Response {
    #[prost(string, optional, tag = "1")]
    error: Option<String>,
    #[prost(uint64, optional, tag = "2")]
    supported_features: Option<u64>,
    #[prost(int32, optional, tag = "3")]
    minimum_edition: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    maximum_edition: Option<i32>,
    #[prost(message, repeated, tag = "15")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct File {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "15")]
    content: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Set {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}
