//! What is refused, and in which words: every mistake at once, each with its place and its remedy.

#![cfg(feature = "proto")]

use std::fs;

use ipc_codegen::{Config, configure};

/// What is said about a schema of `proto/traps`.
fn said(config: Config, traps: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let protos: Vec<_> = traps.iter().map(|trap| format!("traps/{trap}.proto")).collect();
    let includes = [concat!(env!("CARGO_MANIFEST_DIR"), "/../proto")];
    let error = config.out_dir(directory.path()).compile_protos(&protos, &includes).expect_err("a refusal");
    let written = fs::read_dir(directory.path()).expect("a directory").count();
    assert_eq!(written, 0, "nothing is written where something is refused");
    assert_eq!(format!("{error:?}"), error.to_string(), "what a build script's `main` shows");
    error.to_string()
}

#[test]
fn a_broken_schema_has_a_line_and_is_not_alone() {
    assert_eq!(
        said(configure(), &["syntax_error", "unknown_type"]),
        "traps/syntax_error.proto:6:24: expected '(', but found ';'
traps/unknown_type.proto:5:1: import 'traps/not_there.proto' not found
  help: add the directory that it's in to the includes; paths in a schema start at one of them"
    );
}

#[test]
fn an_edition_is_told_from_a_mistake() {
    assert_eq!(
        said(configure(), &["edition"]),
        "traps/edition.proto:1:1: expected 'enum', 'extend', 'import', 'message', 'option', 'service', 'package' or ';', \
         but found 'edition'
  help: editions can't be read; write the file with `syntax = \"proto3\"`, or compile it with `protoc` and give its \
         descriptor set to `.compile_descriptor_set(\"…\")`"
    );
}

#[test]
fn what_prost_cannot_tell_apart_is_refused_before_it_tries() {
    let remedy = "\n  help: rename it in the schema, or map its message or enum to a Rust type of yours with \
                  `.extern_path(\"…\", \"…\")`";
    let expected = [
        "message `traps.messages_with_one_rust_name.HttpItem`: its name in Rust is `HttpItem`, as is that of message \
         `traps.messages_with_one_rust_name.HTTPItem`",
        "message `traps.messages_with_one_rust_name._`: nothing is left of its name in Rust",
        "value `ONE` of enum `traps.messages_with_one_rust_name.Kind`: its name in Rust is `One`, as is that of value \
         `KIND_ONE` of enum `traps.messages_with_one_rust_name.Kind`",
    ]
    .map(|text| format!("traps/messages_with_one_rust_name.proto: {text}{remedy}"));
    assert_eq!(said(configure(), &["messages_with_one_rust_name"]), expected.join("\n"));
}

#[test]
fn a_package_and_a_message_cannot_have_one_module() {
    assert_eq!(
        said(configure().include_file("mod.rs"), &["package_named_like_a_message"]),
        "package `traps.package_named_like_a_message.inner`: its module in Rust is `inner`, as is the module of message \
         `traps.package_named_like_a_message.Inner`
  help: rename one of them in the schema, or do without `.include_file(…)` and include the two packages apart from each \
         other"
    );
}

#[test]
fn what_has_no_name_in_rust_can_be_given_one() {
    let config = || configure().rename_service(".traps.nothing_left_of_a_name.__", "Blank");
    assert_eq!(
        said(configure(), &["nothing_left_of_a_name"]),
        "traps/nothing_left_of_a_name.proto: service `traps.nothing_left_of_a_name.__`: nothing is left of its name in \
         Rust
  help: give it a name in Rust: `.rename_service(\".traps.nothing_left_of_a_name.__\", \"…\")`
traps/nothing_left_of_a_name.proto: service `traps.nothing_left_of_a_name.__`, method `_`: nothing is left of its name \
         in Rust
  help: give it a name in Rust: `.rename_method(\".traps.nothing_left_of_a_name.__._\", \"…\")`"
    );
    assert_eq!(said(config(), &["nothing_left_of_a_name"]).lines().count(), 2);

    let directory = tempfile::tempdir().expect("a temporary directory");
    let includes = [concat!(env!("CARGO_MANIFEST_DIR"), "/../proto")];
    let config =
        config().rename_method(".traps.nothing_left_of_a_name.__._", "nothing").out_dir(directory.path());
    config.compile_protos(&["traps/nothing_left_of_a_name.proto"], &includes).expect("stubs");
    let text = fs::read_to_string(directory.path().join("traps.nothing_left_of_a_name.rs")).expect("stubs");
    assert!(text.contains("pub trait Blank") && text.contains("fn nothing("), "{text}");
    assert!(text.contains("\"/traps.nothing_left_of_a_name.__/_\""), "{text}");
}

#[test]
fn a_name_that_was_chosen_is_never_changed() {
    let config = configure()
        .rename_service(".traps.all_four_kinds.Log", "Entry")
        .rename_method(".traps.all_four_kinds.Log.Append", "load")
        .rename_method(".traps.all_four_kinds.Log.Load", "load")
        .rename_method(".traps.all_four_kinds.Log.Copy", "new");
    assert_eq!(
        said(config, &["all_four_kinds"]),
        "traps/all_four_kinds.proto: service `traps.all_four_kinds.Log`: its trait would be named `Entry`, which is the \
         name of message `traps.all_four_kinds.Entry`
  help: give it another name in Rust: `.rename_service(\".traps.all_four_kinds.Log\", \"…\")`
traps/all_four_kinds.proto: service `traps.all_four_kinds.Log`, method `Load`: its function would be named `load`, as \
         that of `Append` is
  help: give it another name in Rust: `.rename_method(\".traps.all_four_kinds.Log.Load\", \"…\")`
traps/all_four_kinds.proto: service `traps.all_four_kinds.Log`, method `Copy`: a client's constructor is named `new`, \
         so no method can be
  help: give it another name in Rust: `.rename_method(\".traps.all_four_kinds.Log.Copy\", \"…\")`"
    );
}

#[test]
fn options_that_are_not_rust_are_named() {
    let config = configure()
        .client_attribute(".", "cfg(unix)")
        .rename_method("A.B", "not a name")
        .runtime_path("my_sdk::ipc_runtime");
    assert_eq!(
        said(config, &["all_four_kinds"]),
        "`.client_attribute(…, \"cfg(unix)\")` gives no attributes: unexpected token
  help: write them as above an item: `#[derive(Eq)] #[cfg(unix)]`
`.rename_method(\"A.B\", \"not a name\")` gives no name that Rust can use
  help: give an identifier, with `r#` before it where it's a keyword
`.runtime_path(\"my_sdk::ipc_runtime\")` gives no path that every module knows
  help: start it at a crate: `::runtime`, `::my_sdk::ipc_runtime`, `crate::ipc_runtime`"
    );
}
