#!/usr/bin/env python3
"""What a service costs to build: generates one with many methods, and times its stubs, ours and tonic's.

  stubs.py [--methods 40] [--rounds 5]

Each program serves the service and calls each method once; both are compiled by protox, and implement and use the
same methods. Their dependencies are built first and not counted.

- generate: one run of the build script, which reads the schema and writes messages and stubs.
- check, debug, release: one run of cargo, of which nothing but the program itself is new (no incremental build).
"""
import argparse, json, os, pathlib, resource, shutil, statistics, subprocess, time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
KINDS = [("", ""), ("", ""), ("", ""), ("", "stream "), ("stream ", ""), ("", ""), ("", ""), ("stream ", "stream ")]
STEPS = {"check": ["check"], "debug": ["build"], "release": ["build", "--release"]}


def methods(count):
    """Name, and which sides stream; five of eight are unary."""
    return [(f"UpdateProcess{n}", *KINDS[n % len(KINDS)]) for n in range(count)]


def schema(count):
    messages = "".join(
        f"message {name}Request {{ uint32 pid = 1; string name = 2; repeated string arguments = 3; }}\n"
        f"message {name}Response {{ uint64 revision = 1; bytes data = 2; optional string error = 3; }}\n"
        for name, _, _ in methods(count))
    rpcs = "".join(f"  rpc {name}({i}{name}Request) returns ({o}{name}Response);\n" for name, i, o in methods(count))
    return f'syntax = "proto3";\npackage forty.v1;\n{messages}service Forty {{\n{rpcs}}}\n'


def function(name):
    return "update_process" + name.removeprefix("UpdateProcess")


def used(count, client):
    """Makes each call, boxed: calls from here and there in a program don't share one future either."""
    return "".join(f"    Box::pin({function(name)}({client})).await;\n" for name, _, _ in methods(count))


def ipc(count):
    handlers, calls = [], []
    for name, i, o in methods(count):
        request = f"Streaming<{name}Request>" if i else f"{name}Request"
        answer = f"Streaming<{name}Response>" if o else f"{name}Response"
        handlers.append(f"    async fn {function(name)}(&self, _: Request<{request}>) -> Result<Response<{answer}>, Status> {{\n"
                        f"        Err(Status::unimplemented(\"\"))\n    }}\n")
        argument = f"tokio_stream::iter([{name}Request::default()])" if i else f"{name}Request::default()"
        calls.append(f"async fn {function(name)}(client: &FortyClient) -> bool {{\n"
                     f"    client.{function(name)}({argument}).await.is_ok()\n}}\n")
    return f"""use ipc_runtime::{{Channel, Request, Response, Server, Status, Streaming}};
mod forty {{ ipc_runtime::include_proto!("forty.v1"); }}
use forty::*;
struct Handlers;
impl Forty for Handlers {{
{"".join(handlers)}}}
{"".join(calls)}#[tokio::main]
async fn main() {{
    let server = Server::builder().add_service(FortyServer::new(Handlers));
    let client = FortyClient::new(Channel::in_memory(server));
{used(count, "&client")}}}
"""


def tonic(count):
    handlers, calls = [], []
    for name, i, o in methods(count):
        request = f"Streaming<{name}Request>" if i else f"{name}Request"
        answer = f"Self::{name}Stream" if o else f"{name}Response"
        if o:
            handlers.append(f"    type {name}Stream = tokio_stream::Empty<Result<{name}Response, Status>>;\n")
        handlers.append(f"    async fn {function(name)}(&self, _: Request<{request}>) -> Result<Response<{answer}>, Status> {{\n"
                        f"        Err(Status::unimplemented(\"\"))\n    }}\n")
        argument = f"tokio_stream::iter([{name}Request::default()])" if i else f"{name}Request::default()"
        calls.append(f"async fn {function(name)}(client: &mut FortyClient<Channel>) -> bool {{\n"
                     f"    client.{function(name)}({argument}).await.is_ok()\n}}\n")
    return f"""use tonic::transport::{{Channel, Endpoint, Server}};
use tonic::{{Request, Response, Status, Streaming}};
mod pb {{ tonic::include_proto!("forty.v1"); }}
use pb::{{forty_client::FortyClient, forty_server::{{Forty, FortyServer}}, *}};
struct Handlers;
#[tonic::async_trait]
impl Forty for Handlers {{
{"".join(handlers)}}}
{"".join(calls)}#[tokio::main]
async fn main() {{
    let (ours, theirs) = tokio::io::duplex(65536);
    tokio::spawn(
        Server::builder()
            .add_service(FortyServer::new(Handlers))
            .serve_with_incoming(tokio_stream::once(Ok::<_, std::io::Error>(theirs))),
    );
    let mut ours = Some(hyper_util::rt::TokioIo::new(ours));
    let connect = tower::service_fn(move |_| std::future::ready(ours.take().ok_or_else(|| std::io::Error::other("taken"))));
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await.unwrap();
    let mut client = FortyClient::new(channel);
{used(count, "&mut client")}}}
"""


TOKIO = 'tokio = { version = "1", features = ["rt-multi-thread", "macros", "io-util"] }'
PROGRAMS = {
    "ipc": (ipc, f"""[dependencies]
ipc-runtime = {{ package = "typed-ipc-runtime", path = "{HERE.parent}/ipc-runtime" }}
{TOKIO}
tokio-stream = "0.1"
[build-dependencies]
ipc-codegen = {{ path = "{HERE.parent}/ipc-codegen" }}
""", "ipc_codegen::compile_protos(&[\"forty.proto\"], &[\".\"]).unwrap();"),
    "tonic": (tonic, f"""[dependencies]
hyper-util = {{ version = "0.1", features = ["tokio"] }}
prost = "0.14"
{TOKIO}
tokio-stream = "0.1"
tonic = {{ version = "0.14", default-features = false, features = ["server", "channel", "router", "codegen"] }}
tonic-prost = "0.14"
tower = {{ version = "0.5", features = ["util"] }}
[build-dependencies]
protox = "0.10"
tonic-prost-build = "0.14"
""", "tonic_prost_build::configure().compile_fds(protox::compile([\"forty.proto\"], [\".\"]).unwrap()).unwrap();"),
}


def write(name, count):
    """A package of its own, with the versions that the other programs of this directory have."""
    program, dependencies, build = PROGRAMS[name]
    package = TARGET / "stubs" / name
    (package / "src").mkdir(parents=True, exist_ok=True)
    (package / "Cargo.toml").write_text(
        f'[package]\nname = "forty-{name}"\nversion = "0.0.0"\nedition = "2024"\npublish = false\n\n{dependencies}\n[workspace]\n')
    (package / "forty.proto").write_text(schema(count))
    (package / "build.rs").write_text(f"fn main() {{ {build} }}\n")
    (package / "src/main.rs").write_text(program(count))
    if (HERE / "Cargo.lock").exists() and not (package / "Cargo.lock").exists():
        shutil.copy(HERE / "Cargo.lock", package)
    return package


def timed(command, **options):
    """Seconds of all processors, and on the clock."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    subprocess.run(command, check=True, **options)
    wall, after = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def cargo(package, *arguments):
    env = {**os.environ, "CARGO_TARGET_DIR": str(package / "target"), "CARGO_INCREMENTAL": "0"}
    return timed(["cargo", *arguments, "-q"], cwd=package, env=env)


def generate(package):
    """One run of the build script that cargo has built."""
    script = max((package / "target/debug/build").glob("forty-*/build-script-build"), key=lambda p: p.stat().st_mtime)
    out = package / "target/out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    env = {**os.environ, "OUT_DIR": str(out), "CARGO_MANIFEST_DIR": str(package)}
    return timed([script], cwd=package, env=env, stdout=subprocess.DEVNULL)


def stub_lines(package):
    """Lines of code beside the messages, without empty ones and comments."""
    text = (package / "target/out/forty.v1.rs").read_text()
    start = min(text.index(mark) for mark in ("pub trait ", "pub mod forty_client") if mark in text)
    lines = [line.strip() for line in text[start:].splitlines()]
    return sum(1 for line in lines if line and not line.startswith("//"))


def stripped(package):
    program, short = package / "target/release" / f"forty-{package.name}", package / "target/stripped"
    subprocess.run(["strip", "-o", short, program], check=True)
    return short.stat().st_size / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    packages = {name: write(name, given.methods) for name in PROGRAMS}
    for package in packages.values():
        for step in STEPS.values():
            cargo(package, *step)
        subprocess.run([package / "target/release" / f"forty-{package.name}"], check=True)
    times = {name: {step: [] for step in ["generate", *STEPS]} for name in packages}
    for _ in range(given.rounds):
        for step in times["ipc"]:
            for name, package in packages.items():
                if step == "generate":
                    times[name][step].append(generate(package))
                else:
                    (package / "src/main.rs").touch()
                    times[name][step].append(cargo(package, *STEPS[step]))
    (TARGET / "stubs/results.json").write_text(json.dumps(times))
    print(f"| {given.methods} methods | ipc | tonic | ratio |\n|---|---:|---:|---:|")
    for step in times["ipc"]:
        ours, theirs = (statistics.median(cpu for cpu, _ in times[name][step]) for name in ("ipc", "tonic"))
        print(f"| {step}, cpu s | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f}× |")
    ours, theirs = (stripped(packages[name]) for name in ("ipc", "tonic"))
    print(f"| stripped binary, KiB | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f}× |")
    ours, theirs = stub_lines(packages["ipc"]), stub_lines(packages["tonic"])
    print(f"| stubs, lines of code | {ours} | {theirs} | {ours / theirs:.2f}× |")


main()
