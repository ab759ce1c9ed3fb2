//! `protoc-gen-ipc`: the protocol by hand, and a real `protoc` where there is one.

#![cfg(feature = "proto")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::{env, fs};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use prost_types::compiler::code_generator_response::File as CodeGeneratorFile;
use prost_types::compiler::{CodeGeneratorRequest, CodeGeneratorResponse};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
const PLUGIN: &str = env!("CARGO_BIN_EXE_protoc-gen-ipc");

/// What the plugin makes of `files`, when `protoc` has read `set`.
fn answer(set: &FileDescriptorSet, files: &[&str], parameter: &str) -> CodeGeneratorResponse {
    let request = CodeGeneratorRequest {
        file_to_generate: files.iter().map(|file| (*file).to_owned()).collect(),
        parameter: Some(parameter.to_owned()),
        proto_file: set.file.clone(),
        compiler_version: None,
    };
    let mut plugin =
        Command::new(PLUGIN).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the plugin");
    plugin.stdin.take().expect("a pipe").write_all(&request.encode_to_vec()).expect("a reader");
    let output = plugin.wait_with_output().expect("an answer");
    assert!(output.status.success());
    CodeGeneratorResponse::decode(&*output.stdout).expect("a response")
}

/// A schema, as compiled with its imports, and the directory where a build script would have put its code.
fn compiled(protos: &[&str]) -> (FileDescriptorSet, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("set.binpb");
    ipc_codegen::configure()
        .file_descriptor_set_path(&path)
        .out_dir(directory.path())
        .compile_protos(protos, &[PROTO])
        .expect("stubs");
    let set = fs::read(path).expect("descriptors");
    (FileDescriptorSet::decode(&*set).expect("descriptors"), directory)
}

#[test]
fn the_plugin_makes_what_a_build_script_makes() {
    let (set, directory) = compiled(&["greeter.proto"]);
    let response = answer(&set, &["greeter.proto"], "include_file=mod.rs");
    assert_eq!(response.error, None);
    assert_eq!(response.supported_features, Some(3), "optional fields of proto3, and editions");
    let names: Vec<_> = response.file.iter().map(CodeGeneratorFile::name).collect();
    assert_eq!(names, ["greeter.v1.rs", "mod.rs"]);
    let made = fs::read_to_string(directory.path().join("greeter.v1.rs")).expect("stubs");
    assert_eq!(response.file[0].content(), made);
}

#[test]
fn only_what_was_asked_for_is_made() {
    let (set, _) = compiled(&["greeter.proto", "traps/no_package.proto"]);
    let response = answer(
        &set,
        &["traps/no_package.proto"],
        "default_package_filename=root,build_client=false,runtime_path=::sdk::rt",
    );
    assert_eq!(response.file.len(), 1);
    assert_eq!(response.file[0].name(), "root.rs");
    assert!(!response.file[0].content().contains("RootlessClient"));
    assert!(!response.file[0].content().contains("ipc_runtime"));
}

#[test]
fn mistakes_stand_in_the_response() {
    let (set, _) = compiled(&["greeter.proto"]);
    let response = answer(&set, &["greeter.proto"], "build_client=maybe,verbose");
    assert!(response.file.is_empty());
    let remedy = "help: write `name=value`, or `extern_path=.a.b=::a::b`; the others need a build script";
    assert_eq!(
        response.error(),
        format!(
            "`--ipc_opt=build_client=maybe` is no option\n  {remedy}\n`--ipc_opt=verbose` is no option\n  {remedy}"
        )
    );
}

#[test]
fn a_real_protoc_runs_it() {
    let protoc = env::var_os("PROTOC").unwrap_or_else(|| "protoc".into());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = Command::new(protoc)
        .arg(format!("-I{PROTO}"))
        .arg(format!("--plugin=protoc-gen-ipc={PLUGIN}"))
        .arg(format!("--ipc_out={}", directory.path().display()))
        .arg("--ipc_opt=rename_service=.greeter.v1.Greeter=Salutation")
        .arg("greeter.proto")
        .output();
    let Ok(output) = run else {
        eprintln!("there is no protoc here, so it wasn't tried");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(directory.path().join("greeter.v1.rs")).expect("stubs");
    assert!(text.contains("pub trait Salutation"), "{text}");
}
