//! Has rustdoc read the comments of the goldens: none may warn, and none may be taken for a test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// A crate of empty items, each with the documentation of one item of a golden.
fn documented(golden: &str) -> String {
    let text = fs::read_to_string(golden).expect("a golden");
    let mut items = 0;
    let mut documented = String::from("//! Comments of a schema.\n\n");
    let mut lines = text.lines().map(str::trim_start).peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("///") {
            documented.extend([line, "\n"]);
            if !lines.peek().is_some_and(|next| next.starts_with("///")) {
                documented.extend(["pub struct Item", "_".repeat(items).as_str(), ";\n\n"]);
                items += 1;
            }
        }
    }
    // Rustdoc resolves what the stubs say of each other.
    documented + "pub struct Pages;\n"
}

fn rustdoc() -> Command {
    let beside_cargo = env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustdoc"));
    Command::new(beside_cargo.filter(|rustdoc| rustdoc.exists()).unwrap_or_else(|| PathBuf::from("rustdoc")))
}

#[test]
fn comments_neither_warn_nor_run() {
    if env::var_os("WINDOWS_CHECK_WINE").is_some() {
        eprintln!(
            "skipped: it runs rustdoc, and the one that wine finds is this machine's, which knows no C:"
        );
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = directory.path().join("lib.rs");
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/comments_not_meant_for_rustdoc.rs");
    fs::write(&source, documented(golden)).expect("a source");

    let run = |arguments: &[&str]| {
        let output = rustdoc()
            .args(["--edition=2024", "--crate-name=comments"])
            .args(arguments)
            .arg(&source)
            .current_dir(directory.path())
            .output()
            .expect("rustdoc, which comes with Rust");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        said
    };
    run(&["-Dwarnings"]);
    let tests = run(&["--test"]);
    assert!(tests.contains("running 0 tests"), "{tests}");
}
