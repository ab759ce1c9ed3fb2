#!/usr/bin/env python3
"""Drives the peers round-robin and prints markdown tables. See README.md for the commands.

  bench.py build [--peers ...]            cargo build --release of the contestants
  bench.py run [...]                      timed rounds, interleaved; writes/extends the JSON
  bench.py run --kind syscalls ...        one short run with the kernel's syscall counters on
  bench.py run --kind allocs ...          with the counting allocator (bench.py build --allocs first)
  bench.py static [--peers ...]           crates, cold build time, stripped size of minimal/*
  bench.py report                         tables from the JSON
"""
import argparse, collections, fnmatch, json, os, pathlib, re, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
OUT = TARGET / "results.json"
ORDER = ["ipc", "raw-blocking", "raw-tokio", "raw-mux", "tonic", "tonic-tuned", "ttrpc", "tarpc", "capnp", "connect", "volo", "zbus"]
# Same binary, other settings: name -> (peer, environment).
VARIANTS = {"tonic-tuned": ("tonic", {"PEER_TUNED": "1"})}
PINS = {"none": "left to the scheduler", "same": "client and server on one CPU", "split": "client and server on a CPU each"}
SIZES = {"64B": 64, "4K": 4096, "256K": 256 * 1024, "1M": 1024 * 1024 - 1024}
SHAPES = {"c1": (1, 1), "c16": (1, 16), "c64": (1, 64), "c256": (1, 256), "16x4": (16, 4)}


def workloads():
    w = collections.OrderedDict()
    for shape, (conns, inflight) in SHAPES.items():
        for s, n in SIZES.items():
            w[f"echo-{s}-{shape}"] = ["--workload", "echo", "--size", n, "--conns", conns, "--inflight", inflight]
    for shape in ("c1", "c16"):
        conns, inflight = SHAPES[shape]
        w[f"list200-{shape}"] = ["--workload", "list", "--size", 200, "--conns", conns, "--inflight", inflight]
    w["stream-64B"] = ["--workload", "stream", "--size", 64, "--count", 100_000]
    w["stream-64K"] = ["--workload", "stream", "--size", 65536, "--count", 4096]
    return w


def all_peers():
    found = [p.parent.name for p in (HERE / "stacks").glob("*/Cargo.toml")] + list(VARIANTS)
    return sorted(found, key=lambda p: (ORDER.index(p) if p in ORDER else len(ORDER), p))


def pick(names, pats):
    if not pats:
        return list(names)
    pats = pats.split(",")
    out = [n for n in names if any(fnmatch.fnmatch(n, p) for p in pats)]
    if not out:
        sys.exit(f"nothing matches {pats} among {list(names)}")
    return out


def load(path):
    if path.exists():
        return json.loads(path.read_text())
    return {"runs": [], "static": {}}


def save(path, data):
    tmp = path.with_suffix(".tmp")
    tmp.write_text(json.dumps(data))
    tmp.replace(path)


# Slow shapes need a longer warm-up and window to see complete calls.
SLOW = {"echo-1M-c256": 4, "echo-1M-c64": 2, "echo-1M-16x4": 2, "echo-256K-c256": 2}


def one(binary, env, w, wl, rt, pin, measure, warm, syscalls, timeout):
    """One fresh server process and one fresh client process."""
    measure, warm = measure * SLOW.get(w, 1), warm * SLOW.get(w, 1)
    d = tempfile.mkdtemp(prefix="pb")
    sock = f"{d}/s"
    extra = ["--syscalls"] if syscalls else []
    env = {**os.environ, **env}
    cpus = {"none": (None, None), "same": ({0}, {0}), "split": ({1}, {0})}[pin]
    on = lambda c: (lambda: os.sched_setaffinity(0, c)) if c else None
    srv = subprocess.Popen([binary, "server", "--sock", sock, "--rt", rt, *extra], env=env, preexec_fn=on(cpus[0]),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = srv.stdout.readline()
        if line.strip() != "READY":
            return {"error": f"server: {line!r} {srv.stderr.read()[-300:]}"}
        try:
            c = subprocess.run([binary, "client", "--sock", sock, "--rt", rt, *extra,
                                "--measure-ms", str(measure), "--warm-ms", str(warm), *map(str, wl)],
                               capture_output=True, text=True, timeout=timeout, env=env, preexec_fn=on(cpus[1]))
        except subprocess.TimeoutExpired:
            return {"error": f"client exceeded {timeout}s"}
        if c.returncode or not c.stdout.strip():
            return {"error": (c.stderr or f"rc {c.returncode}").strip()[-300:]}
        return json.loads(c.stdout.strip().splitlines()[-1])
    finally:
        srv.kill()
        srv.wait()
        srv.stdout.close()
        srv.stderr.close()
        shutil.rmtree(d, ignore_errors=True)


def cmd_build(a):
    """One cargo call per contestant: building them together would unify features (e.g. tarpc turns on
    tracing's `log` feature, which then slows every h2-based peer)."""
    for p in pick(all_peers(), a.peers):
        if p in VARIANTS:
            continue
        args = ["cargo", "build", "--release", "-q", "-p", f"peer-{p}"]
        t, env = time.time(), {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
        subprocess.run(args, cwd=HERE, check=True, env=env)
        if a.allocs:
            # Same target directory (the dependencies are shared), then put the ordinary binary back.
            subprocess.run([*args, "--features", f"peer-{p}/alloc-count"], cwd=HERE, check=True, env=env)
            (TARGET / "allocs").mkdir(exist_ok=True)
            shutil.copy(TARGET / "release" / f"peer-{p}", TARGET / "allocs")
            subprocess.run(args, cwd=HERE, check=True, env=env)
        print(f"built {p} in {time.time() - t:.0f}s", flush=True)


def cmd_run(a):
    peers, wls = pick(all_peers(), a.peers), workloads()
    names = pick(wls, a.workloads)
    data = load(a.out) if not a.fresh else {"runs": [], "static": load(a.out).get("static", {})}
    bindir = TARGET / ("allocs" if a.kind == "allocs" else "release")
    skip = set()  # (peer, workload) known to be unsupported or failing
    rounds = a.rounds if a.kind == "time" else 1
    t0 = time.time()
    base = max([r["round"] for r in data["runs"] if r["kind"] == a.kind and r["rt"] == a.rt and r["pin"] == a.pin], default=-1) + 1
    for rnd in range(rounds):
        t_round = time.time()
        for wi, w in enumerate(names):
            k = (rnd + wi) % len(peers)
            for p in peers[k:] + peers[:k]:
                if (p, w) in skip:
                    continue
                exe, env = VARIANTS.get(p, (p, {}))
                b = bindir / f"peer-{exe}"
                if not b.exists():
                    sys.exit(f"{b} is missing: run bench.py build")
                r = one(str(b), env, w, wls[w], a.rt, a.pin, a.measure_ms, a.warm_ms, a.kind == "syscalls", a.timeout)
                if "unsupported" in r or "error" in r:
                    skip.add((p, w))
                    if "error" in r:
                        print(f"  ! {p} {w}: {r['error']}", file=sys.stderr, flush=True)
                r.update(peer=p, workload=w, rt=a.rt, pin=a.pin, kind=a.kind, round=base + rnd, t=time.time())
                data["runs"].append(r)
        save(a.out, data)
        took = time.time() - t_round
        print(f"round {rnd + 1}/{rounds} took {took:.0f}s", file=sys.stderr, flush=True)
        if time.time() - t0 + took > a.budget_s and rnd + 1 < rounds:
            print(f"stopping: the next round would pass --budget-s {a.budget_s}", file=sys.stderr)
            break
    data["meta"] = {"uname": " ".join(os.uname()), "cpus": os.cpu_count(), "when": time.strftime("%F %T"),
                    "rustc": subprocess.run(["rustc", "-V"], capture_output=True, text=True).stdout.strip()}
    save(a.out, data)
    report(data, a)


# ---------------------------------------------------------------- report

def med(v):
    v = [x for x in v if x is not None]
    return statistics.median(v) if v else None


def num(x):
    if x is None:
        return "n/a"
    if x >= 100000:
        return f"{x/1000:,.0f}k"
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def table(title, rows, cols, cell):
    print(f"\n### {title}\n")
    print("| peer | " + " | ".join(cols) + " |")
    print("|---|" + "---:|" * len(cols))
    for r in rows:
        print(f"| {r} | " + " | ".join(cell(r, c) for c in cols) + " |")


def report(data, a):
    rt = a.rt
    runs = [r for r in data["runs"] if r["rt"] == rt and r["pin"] == a.pin]
    timed = [r for r in runs if r["kind"] == "time"]
    peers = [p for p in all_peers() if any(r["peer"] == p for r in runs)]
    wls = [w for w in workloads() if any(r["workload"] == w for r in timed)]
    by = collections.defaultdict(dict)
    for r in timed:
        if "rate" in r:
            by[r["peer"], r["workload"]][r["round"]] = r

    def get(p, w, f):
        return med([f(r) for r in by[p, w].values()])

    def ratio(p, w, base, f, invert=False):
        """Median over rounds of the same-round ratio to `base`."""
        v = []
        for rnd, r in by[p, w].items():
            b = by[base, w].get(rnd)
            if b and f(b) and f(r):
                v.append(f(b) / f(r) if invert else f(r) / f(b))
        return med(v)

    def rs(x):
        return "–" if x is None else f"{x:.2f}×"

    rate = lambda r: r["rate"]
    print(f"\n## Peers over a Unix socket, rt={rt}, {data.get('meta', {}).get('rustc','')}, "
          f"{data.get('meta', {}).get('cpus')} cpus, placement {PINS[a.pin]}; medians over rounds")

    for s in SIZES:
        w = f"echo-{s}-c1"
        if w in wls:
            cols = ["p50 µs", "p99 µs", "p999 µs", "calls/s", "vs raw-tokio", "vs tonic", "cpu µs/call cli+srv", "peak RSS MiB cli/srv"]
            def cell(p, c, w=w):
                if not by[p, w]:
                    return "n/a"
                q = {"p50 µs": "p50", "p99 µs": "p99", "p999 µs": "p999"}.get(c)
                if q:
                    return num(get(p, w, lambda r: r["lat_us"][q]))
                if c == "calls/s":
                    return num(get(p, w, rate))
                if c.startswith("vs "):
                    return rs(ratio(p, w, c[3:], lambda r: r["lat_us"]["p50"]))
                if c.startswith("cpu"):
                    return f"{num(get(p, w, lambda r: r['cpu_us']['client']))}+{num(get(p, w, lambda r: r['cpu_us']['server']))}"
                return f"{num(get(p, w, lambda r: r['client']['hwm_kb']/1024))}/{num(get(p, w, lambda r: r['server']['hwm_kb']/1024))}"
            table(f"Latency, unary echo {s}, one call in flight (ratios: p50, lower is better)", peers, cols, cell)

    for s in SIZES:
        sh = [x for x in list(SHAPES)[1:] if f"echo-{s}-{x}" in wls]
        if sh:
            def cell(p, c, s=s):
                w = f"echo-{s}-{c}"
                if not by[p, w]:
                    return "n/a"
                return (f"{num(get(p, w, rate))} ({rs(ratio(p, w, 'raw-tokio', rate))}, {rs(ratio(p, w, 'tonic', rate))}) "
                        f"{num(get(p, w, lambda r: r['lat_us']['p50']))}/{num(get(p, w, lambda r: r['lat_us']['p99']))}")
            table(f"Throughput, unary echo {s}: calls/s (× raw-tokio, × tonic) p50/p99 µs", peers, sh, cell)
            def cell2(p, c, s=s):
                w = f"echo-{s}-{c}"
                if not by[p, w]:
                    return "n/a"
                return (f"{num(get(p, w, lambda r: r['cpu_us']['both']))} | ".rstrip(" |")
                        + f" ({num(get(p, w, lambda r: r['client']['hwm_kb']/1024))}/{num(get(p, w, lambda r: r['server']['hwm_kb']/1024))})")
            table(f"CPU µs per call, both processes (peak RSS MiB client/server), echo {s}", peers, sh, cell2)

    ls = [w for w in wls if w.startswith("list")]
    if ls:
        def cell(p, c):
            if not by[p, c]:
                return "n/a"
            return (f"{num(get(p, c, rate))} ({rs(ratio(p, c, 'raw-tokio', rate))}, {rs(ratio(p, c, 'tonic', rate))}) "
                    f"{num(get(p, c, lambda r: r['lat_us']['p50']))}/{num(get(p, c, lambda r: r['lat_us']['p99']))} "
                    f"cpu {num(get(p, c, lambda r: r['cpu_us']['client']))}+{num(get(p, c, lambda r: r['cpu_us']['server']))}")
        table("200 process records: calls/s (× raw-tokio, × tonic) p50/p99 µs, cpu µs/call client+server", peers, ls, cell)

    st = [w for w in wls if w.startswith("stream")]
    if st:
        def cell(p, c):
            if not by[p, c]:
                return "n/a"
            return (f"{num(get(p, c, rate))} msg/s, {num(get(p, c, lambda r: r['mb_s']))} MB/s "
                    f"({rs(ratio(p, c, 'raw-tokio', rate))}, {rs(ratio(p, c, 'tonic', rate))}) "
                    f"cpu {num(get(p, c, lambda r: r['cpu_us']['both']))} rss {num(get(p, c, lambda r: r['client']['hwm_kb']/1024))}/{num(get(p, c, lambda r: r['server']['hwm_kb']/1024))}")
        table("Server streaming: msg/s, MB/s (× raw-tokio, × tonic), cpu µs/msg both, peak RSS MiB client/server", peers, st, cell)

    sysr = [r for r in runs if r["kind"] == "syscalls" and "rate" in r]
    if sysr:
        latest = {(r["peer"], r["workload"]): r for r in sysr}
        cols = [w for w in workloads() if any(k[1] == w for k in latest)]
        def cell(p, c):
            r = latest.get((p, c))
            if not r:
                return "n/a"
            n = r["calls"] or 1
            return f"{r['client']['syscalls'].get('total', 0)/n:.2f}+{r['server']['syscalls'].get('total', 0)/n:.2f}"
        table("Syscalls per call (or per stream message), client+server", peers, cols, cell)
        for w in ("echo-64B-c1", "echo-64B-c64", "stream-64B"):
            if w in cols:
                print(f"\nBreakdown, {w} (per call, client | server):\n")
                for p in peers:
                    r = latest.get((p, w))
                    if not r:
                        continue
                    n = r["calls"] or 1
                    f = lambda side: ", ".join(f"{k} {v/n:.2f}" for k, v in sorted(r[side]["syscalls"].items(), key=lambda kv: -kv[1])
                                               if k != "total" and v / n >= 0.05)
                    ctx = lambda side: f"; ctx {r[side]['vol_ctx']/n:.2f}+{r[side]['inv_ctx']/n:.2f}"
                    print(f"- {p}: {f('client')}{ctx('client')} | {f('server')}{ctx('server')}")

    al = {(r["peer"], r["workload"]): r for r in runs if r["kind"] == "allocs" and "rate" in r}
    if al:
        cols = [w for w in workloads() if any(k[1] == w for k in al)]
        def cell(p, c):
            r = al.get((p, c))
            if not r:
                return "n/a"
            n = r["calls"] or 1
            return (f"{r['client']['allocs']/n:.1f}+{r['server']['allocs']/n:.1f} "
                    f"({num(r['client']['alloc_bytes']/n/1024)}+{num(r['server']['alloc_bytes']/n/1024)} KiB)")
        table("Allocations per call, client+server (bytes asked for)", peers, cols, cell)

    if data.get("static"):
        ps = sorted(data["static"], key=lambda p: (ORDER.index(p) if p in ORDER else 99, p))
        cols = ["crates (normal)", "crates (normal+build)", "cold build s (-j2)", "cold build cpu s", "stripped KiB"]
        def cell(p, c):
            s = data["static"][p]
            v = s.get(c)
            return "n/a" if v is None else (f"{v:.0f}" if isinstance(v, (int, float)) else str(v))
        table("Static figures of a minimal client+server program", ps, cols, cell)
    bad = sorted({(r["peer"], r["workload"], r.get("error") or r.get("unsupported")) for r in runs if "rate" not in r})
    if bad:
        print("\nNot measured:")
        for p, w, e in bad:
            print(f"- {p} {w}: {e}")


def cmd_report(a):
    report(load(a.out), a)


# ---------------------------------------------------------------- static figures

def crates(pkg, edges):
    t = subprocess.run(["cargo", "tree", "-p", pkg, "-e", edges, "--prefix", "none", "--no-dedupe"],
                       cwd=HERE, capture_output=True, text=True, check=True).stdout
    names = {" ".join(l.split()[:2]) for l in t.splitlines() if l.strip()}
    return len({n for n in names if not n.startswith(pkg + " ")})


def cmd_static(a):
    import resource
    data = load(a.out)
    found = sorted(p.parent.name for p in (HERE / "minimal").glob("*/Cargo.toml"))
    subprocess.run(["cargo", "fetch"], cwd=HERE, check=True)
    for m in pick(found, a.peers):
        pkg = f"min-{m}"
        tgt = tempfile.mkdtemp(prefix="cold")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        t0 = time.time()
        r = subprocess.run(["cargo", "build", "--release", "--offline", "-j2", "-p", pkg], cwd=HERE, capture_output=True, text=True,
                           env={**os.environ, "CARGO_TARGET_DIR": tgt})
        wall = time.time() - t0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if r.returncode:
            print(r.stderr[-2000:], file=sys.stderr)
            print(f"{pkg} does not build", file=sys.stderr, flush=True)
            shutil.rmtree(tgt, ignore_errors=True)
            continue
        b = f"{tgt}/release/{pkg}"
        subprocess.run(["strip", "-o", b + ".s", b], check=True)
        data["static"][m] = {
            "crates (normal)": crates(pkg, "normal"),
            "crates (normal+build)": crates(pkg, "normal,build"),
            "cold build s (-j2)": wall,
            "cold build cpu s": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime,
            "stripped KiB": os.path.getsize(b + ".s") / 1024,
        }
        # The program really works: it runs server and client in one go and checks the echo.
        ok = subprocess.run([b], capture_output=True, text=True, timeout=20)
        data["static"][m]["self-test"] = ok.stdout.strip() or ok.stderr.strip()[-200:]
        print(m, data["static"][m], flush=True)
        shutil.rmtree(tgt, ignore_errors=True)
        save(a.out, data)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="cmd", required=True)
    for name, fn in (("build", cmd_build), ("run", cmd_run), ("static", cmd_static), ("report", cmd_report), ("list", None)):
        p = sub.add_parser(name)
        p.set_defaults(fn=fn)
        p.add_argument("--peers", help="comma-separated names or globs")
        p.add_argument("--workloads", help="comma-separated names or globs")
        p.add_argument("--rounds", type=int, default=3)
        p.add_argument("--rt", choices=["mt", "ct"], default="mt", help="both sides: multi_thread (2 workers) or current_thread")
        p.add_argument("--pin", choices=list(PINS), default="none", help="CPU placement of the two processes")
        p.add_argument("--kind", choices=["time", "syscalls", "allocs"], default="time")
        p.add_argument("--measure-ms", type=int, default=400)
        p.add_argument("--warm-ms", type=int, default=120)
        p.add_argument("--timeout", type=int, default=25, help="seconds for one client run")
        p.add_argument("--budget-s", type=int, default=460, help="start no round that would end after this")
        p.add_argument("--fresh", action="store_true", help="drop earlier runs from the JSON (static figures stay)")
        p.add_argument("--allocs", action="store_true", help="build: with the counting allocator")
        p.add_argument("--out", type=pathlib.Path, default=OUT)
    a = ap.parse_args()
    if a.cmd == "list":
        print("peers:", ", ".join(all_peers()))
        print("workloads:", ", ".join(workloads()))
        return
    a.fn(a)


main()
