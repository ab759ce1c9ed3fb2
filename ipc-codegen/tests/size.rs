//! How much code there is for a service: what people read, and what compilers do, on every build.

#![cfg(feature = "proto")]

use std::fs;

/// The code for a service with `methods` unary methods, laid out as it is written.
fn code(methods: usize) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let rpc = |n| format!("  rpc UpdateProcess{n:02}(UpdateProcessRequest) returns (UpdateProcessResponse);");
    let rpcs = (0..methods).map(rpc).collect::<Vec<_>>().join("\n");
    // The messages come from elsewhere, so that nothing but the service is counted.
    let schema = format!(
        "syntax = \"proto3\";\npackage collector.v1;\nmessage UpdateProcessRequest {{}}\nmessage UpdateProcessResponse {{}}\n\
         service ProcessCollector {{\n{rpcs}\n}}\n"
    );
    fs::write(directory.path().join("collector.proto"), schema).expect("a schema");
    let messages = ".collector.v1.UpdateProcess";
    ipc_codegen::configure()
        .out_dir(directory.path())
        .extern_path(format!("{messages}Request"), "UpdateProcessRequest")
        .extern_path(format!("{messages}Response"), "UpdateProcessResponse")
        .compile_protos(&["collector.proto"], &[directory.path()])
        .expect("stubs");
    fs::read_to_string(directory.path().join("collector.v1.rs")).expect("stubs")
}

/// How many lines that is. Empty lines are not counted, nor is documentation: its length is the schema's, and a function
/// of a client says three lines more.
fn lines(methods: usize) -> usize {
    let text = code(methods);
    let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text.lines().filter(code).count()
}

#[test]
fn a_unary_method_takes_fifteen_lines_and_a_service_sixty() {
    let (few, many) = (lines(10), lines(30));
    let method = (many - few).div_ceil(20);
    let service = few - 10 * method;
    assert!(method <= 15, "{method} lines for each method");
    assert!(service <= 60, "{service} lines for each service");
}

#[test]
fn clippy_is_told_why_a_function_is_long() {
    let told = "#[allow(clippy::too_many_lines, reason = \"a line for each method\")]";
    assert_eq!([10, 90, 91, 1000].map(|methods| code(methods).contains(told)), [false, false, true, true]);
}
