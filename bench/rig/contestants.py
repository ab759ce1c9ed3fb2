"""Who is measured: the programs under stacks/ and their variants, and how they are built."""
import fnmatch, os, pathlib, shutil, subprocess, sys, time

HERE = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
ORDER = ["ipc", "raw-blocking", "raw-tokio", "raw-mux", "tonic", "tonic-tuned", "ttrpc", "tarpc", "capnp", "connect", "volo", "zbus"]
# Those of the short and the long comparison; the others take minutes to build and are nowhere the best.
COMPARED = "ipc,raw-blocking,raw-tokio,raw-mux,tonic,ttrpc,tarpc,capnp,connect"
# Same binary, other settings: name -> (peer, environment).
VARIANTS = {"tonic-tuned": ("tonic", {"PEER_TUNED": "1"})}


def order(peer):
    return (ORDER.index(peer) if peer in ORDER else len(ORDER), peer)


def all_peers():
    found = [p.parent.name for p in (HERE / "stacks").glob("*/Cargo.toml")] + list(VARIANTS)
    return sorted(found, key=order)


def is_peer(name):
    """The raw ones are limits and sketches; they have no stubs."""
    return name != "ipc" and not name.startswith("raw-")


def pick(names, pats):
    if not pats:
        return list(names)
    pats = pats.split(",")
    out = [n for n in names if any(fnmatch.fnmatch(n, p) for p in pats)]
    if not out:
        sys.exit(f"nothing matches {pats} among {list(names)}")
    return out


def binary(peer, allocs=False):
    """The program of a peer and the environment that makes it the variant."""
    exe, env = VARIANTS.get(peer, (peer, {}))
    path = TARGET / ("allocs" if allocs else "release") / f"peer-{exe}"
    if not path.exists():
        sys.exit(f"{path} is missing: run ./bench.py build --peers {exe}{' --allocs' if allocs else ''}")
    return path, env


def cargo(*args):
    subprocess.run(["cargo", *args], cwd=HERE, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})


def build(peers, allocs=False):
    """One cargo call per contestant: building them together would unify features (e.g. tarpc turns on
    tracing's `log` feature, which then slows every h2-based peer)."""
    for p in peers:
        if p in VARIANTS:
            continue
        args, t = ["build", "--release", "-q", "-p", f"peer-{p}"], time.time()
        if allocs:
            # Same target directory (the dependencies are shared), then put the ordinary binary back.
            cargo(*args, "--features", f"peer-{p}/alloc-count")
            (TARGET / "allocs").mkdir(exist_ok=True)
            shutil.copy(TARGET / "release" / f"peer-{p}", TARGET / "allocs")
        cargo(*args)
        print(f"built {p} in {time.time() - t:.0f}s", file=sys.stderr, flush=True)
