"""What the smallest program of a stack costs: crates, a clean build, its stripped size (minimal/*)."""
import os, resource, shutil, subprocess, sys, tempfile, time

from . import results
from .contestants import HERE, pick


def crates(pkg, edges):
    t = subprocess.run(["cargo", "tree", "-p", pkg, "-e", edges, "--prefix", "none", "--no-dedupe"],
                       cwd=HERE, capture_output=True, text=True, check=True).stdout
    names = {" ".join(l.split()[:2]) for l in t.splitlines() if l.strip()}
    return len({n for n in names if not n.startswith(pkg + " ")})


def measure(name):
    """Builds it in a directory of its own, and runs it: it serves and calls itself and checks the echo."""
    pkg, target = f"min-{name}", tempfile.mkdtemp(prefix="cold")
    try:
        before, t0 = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
        subprocess.run(["cargo", "build", "-q", "--release", "--offline", "-j2", "-p", pkg], cwd=HERE, check=True,
                       env={**os.environ, "CARGO_TARGET_DIR": target})
        wall, after = time.time() - t0, resource.getrusage(resource.RUSAGE_CHILDREN)
        program = f"{target}/release/{pkg}"
        subprocess.run(["strip", "-o", program + ".s", program], check=True)
        subprocess.run([program], check=True, timeout=20, stdout=subprocess.DEVNULL)
        return {
            "crates (normal)": crates(pkg, "normal"),
            "crates (normal+build)": crates(pkg, "normal,build"),
            "cold build s (-j2)": wall,
            "cold build cpu s": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
            "stripped KiB": os.path.getsize(program + ".s") / 1024,
        }
    finally:
        shutil.rmtree(target, ignore_errors=True)


def run(peers, out):
    found = sorted(p.parent.name for p in (HERE / "minimal").glob("*/Cargo.toml"))
    subprocess.run(["cargo", "fetch", "-q"], cwd=HERE, check=True)
    for name in pick(found, peers):
        figures, data = measure(name), results.load(out)
        print(name, figures, file=sys.stderr, flush=True)
        data["static"][name] = figures
        results.save(out, data)
