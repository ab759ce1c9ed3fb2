//! What is generated from the schemas in `proto/traps`, each named after the trap it sets: `golden/*.rs`, files that
//! people read. `goldens_compile.rs` compiles them.
//!
//! `UPDATE_GOLDEN=1` writes them anew.

use std::path::Path;
use std::{env, fs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Schemas, and the files that are made from them.
const GOLDENS: &[(&str, &str)] = &[
    ("all_four_kinds", "traps.all_four_kinds.rs"),
    ("comments_not_meant_for_rustdoc", "traps.comments_not_meant_for_rustdoc.rs"),
    ("deprecated_service", "traps.deprecated_service.rs"),
    ("messages_named_like_the_prelude", "traps.messages_named_like_the_prelude.rs"),
    ("messages_named_like_the_stubs", "traps.messages_named_like_the_stubs.rs"),
    ("method_named_new", "traps.method_named_new.rs"),
    ("methods_named_like_keywords", "traps.methods_named_like_keywords.rs"),
    ("methods_with_one_rust_name", "traps.methods_with_one_rust_name.rs"),
    ("no_package", "_.rs"),
    ("service_without_methods", "traps.service_without_methods.rs"),
    ("services_named_like_the_prelude", "traps.services_named_like_the_prelude.rs"),
    ("underscores_and_digits", "traps.underscores.v1.rs"),
    ("well_known_types_as_arguments", "traps.well_known_types_as_arguments.rs"),
];

#[test]
fn generated_code_is_as_it_was_read() {
    let mut changed = Vec::new();
    for (trap, file) in GOLDENS {
        let directory = tempfile::tempdir().expect("a temporary directory");
        ipc_codegen::configure()
            .out_dir(directory.path())
            .compile_protos(&[format!("traps/{trap}.proto")], &[format!("{ROOT}/../proto")])
            .unwrap_or_else(|error| panic!("{trap}: {error}"));
        let generated = fs::read_to_string(directory.path().join(file)).expect("a generated file");
        let golden = format!("{ROOT}/tests/golden/{trap}.rs");
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &generated).expect("a golden that can be written");
        } else if fs::read_to_string(&golden).ok().as_ref() != Some(&generated) {
            changed.push(*trap);
        }
    }
    assert!(changed.is_empty(), "{changed:?} have changed; read them, then set UPDATE_GOLDEN=1");
}

#[test]
fn there_is_no_golden_without_a_trap() {
    for entry in fs::read_dir(Path::new(ROOT).join("tests/golden")).expect("the goldens") {
        let path = entry.expect("a golden").path();
        let trap = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        assert!(GOLDENS.iter().any(|(known, _)| *known == trap), "{trap} is a golden of nothing");
    }
}
