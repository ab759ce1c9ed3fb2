//! What is generated from the schemas in `proto/traps`, each named after the trap it sets: `golden/*.rs`, files that
//! people read. `goldens_compile.rs` and `shadowed_prelude.rs` compile them.
//!
//! `UPDATE_GOLDEN=1` writes them anew.

#![cfg(feature = "proto")]

use std::path::Path;
use std::{env, fs};

use ipc_codegen::{Config, configure};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Goldens of schemas with their names, and the file each is made as.
const TRAPS: &[(&str, &str)] = &[
    ("all_four_kinds", "traps.all_four_kinds.rs"),
    ("comments_not_meant_for_rustdoc", "traps.comments_not_meant_for_rustdoc.rs"),
    ("deprecated_service", "traps.deprecated_service.rs"),
    ("messages_named_like_the_prelude", "traps.messages_named_like_the_prelude.rs"),
    ("messages_named_like_the_stubs", "traps.messages_named_like_the_stubs.rs"),
    ("method_named_new", "traps.method_named_new.rs"),
    ("methods_named_like_keywords", "traps.methods_named_like_keywords.rs"),
    ("methods_with_one_rust_name", "traps.methods_with_one_rust_name.rs"),
    ("names_and_shapes_that_clippy_dislikes", "traps.clippy.rs"),
    ("no_package", "_.rs"),
    ("package_named_like_keywords", "traps.type.async.v1.rs"),
    ("public_import_of_a_public_import", "traps.public_import.rs"),
    ("service_without_methods", "traps.service_without_methods.rs"),
    ("services_named_like_the_prelude", "traps.services_named_like_the_prelude.rs"),
    ("underscores_and_digits", "traps.underscores.v1.rs"),
    ("well_known_types_as_arguments", "traps.well_known_types_as_arguments.rs"),
];

type Options = fn() -> Config;

/// Goldens of `all_four_kinds` with options.
const OPTIONS: &[(&str, Options)] = &[
    ("with_default_stubs", || {
        configure().generate_default_stubs(true).build_client(false).disable_comments(["."])
    }),
    ("with_attributes", || {
        configure()
            .trait_attribute("Log", "#[cfg(not(doctest))]")
            .method_attribute("Log.Append", "#[cfg(not(miri))]")
            .client_attribute(".", "#[derive(::core::marker::Copy)]")
            .client_mod_attribute(".", "#[cfg(any())]")
            .server_attribute(".", "#[doc(alias = \"journal\")]")
            .server_mod_attribute(".", "#[cfg(all())]")
            .type_attribute("Entry", "#[derive(PartialOrd, Ord)]")
            .message_attribute(".", "#[must_use]")
            .field_attribute("Entry.line", "#[doc(alias = \"text\")]")
            .bytes([".none"])
    }),
    ("with_a_runtime_from_elsewhere", || configure().runtime_path("crate::my_sdk::ipc_runtime")),
    ("with_messages_from_elsewhere", || configure().extern_path(".traps.all_four_kinds", "crate::messages")),
];

fn generated(trap: &str, file: &str, config: Config) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    config
        .out_dir(directory.path())
        .compile_protos(&[format!("traps/{trap}.proto")], &[format!("{ROOT}/../proto")])
        .unwrap_or_else(|error| panic!("{trap}: {error}"));
    fs::read_to_string(directory.path().join(file)).expect("a generated file")
}

/// From `<trap>.binpb`, the schema as `protoc` has compiled it.
fn by_descriptor_set(trap: &str, file: &str) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    configure()
        .out_dir(directory.path())
        .compile_descriptor_set(format!("{ROOT}/../proto/traps/{trap}.binpb"))
        .unwrap_or_else(|error| panic!("{trap}: {error}"));
    fs::read_to_string(directory.path().join(file)).expect("a generated file")
}

fn goldens() -> impl Iterator<Item = (&'static str, String)> {
    let traps = TRAPS.iter().map(|(trap, file)| (*trap, generated(trap, file, configure())));
    let options = OPTIONS
        .iter()
        .map(|(golden, config)| (*golden, generated("all_four_kinds", "traps.all_four_kinds.rs", config())));
    let maps = "names_and_shapes_that_clippy_dislikes";
    traps
        .chain(options)
        .chain([("with_btree_maps", generated(maps, "traps.clippy.rs", configure().btree_map(["."])))])
        .chain([("edition_by_descriptor_set", by_descriptor_set("edition", "traps.edition.rs"))])
}

#[test]
fn generated_code_is_as_it_was_read() {
    let mut changed = Vec::new();
    for (name, generated) in goldens() {
        let golden = format!("{ROOT}/tests/golden/{name}.rs");
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &generated).expect("a golden that can be written");
        } else if fs::read_to_string(&golden).ok().as_ref() != Some(&generated) {
            changed.push(name);
        }
    }
    assert!(changed.is_empty(), "{changed:?} have changed; read them, then set UPDATE_GOLDEN=1");
}

#[test]
fn nothing_is_named_by_its_usual_path_where_the_runtime_is_elsewhere() {
    let path = "crate::my_sdk::ipc_runtime";
    for (trap, file) in TRAPS {
        let text = generated(trap, file, configure().runtime_path(path));
        assert_eq!(text.matches("ipc_runtime").count(), text.matches(path).count(), "{text}");
    }
}

#[test]
fn there_is_no_golden_without_a_trap() {
    let known: Vec<_> = goldens().map(|(name, _)| name).collect();
    for entry in fs::read_dir(Path::new(ROOT).join("tests/golden")).expect("the goldens") {
        let path = entry.expect("a golden").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(known.contains(&name), "{name} is a golden of nothing");
    }
}
