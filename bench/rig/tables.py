"""Figures as markdown tables."""
from .contestants import order
from .results import Figures, num
from .sample import PINS
from .workloads import SHAPES, SIZES, workloads


def table(title, rows, cols, cell):
    lines = [f"### {title}", ""] if title else []
    lines += ["| peer | " + " | ".join(cols) + " |", "|---|" + "---:|" * len(cols)]
    lines += [f"| {row} | " + " | ".join(cell(row, c) for c in cols) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def times(x):
    return "–" if x is None else f"{x:.2f}×"


def pair(figures, peer, workload, metric, sep="+"):
    return sep.join(num(figures.get(peer, workload, f"{metric} {side}")) for side in ("client", "server"))


def latency(f, peers, size):
    w = f"echo-{size}-c1"
    cols = {
        **{f"{q} µs": (lambda p, q=q: num(f.get(p, w, q))) for q in ("p50", "p99", "p999")},
        "calls/s": lambda p: num(f.get(p, w, "rate")),
        "vs raw-tokio": lambda p: times(f.ratio(p, w, "raw-tokio", "p50")),
        "vs tonic": lambda p: times(f.ratio(p, w, "tonic", "p50")),
        "cpu µs/call cli+srv": lambda p: pair(f, p, w, "cpu"),
        "peak RSS MiB cli/srv": lambda p: pair(f, p, w, "rss", "/"),
    }
    cell = lambda p, c: cols[c](p) if f.has(p, w) else "n/a"
    return table(f"Latency, unary echo {size}, one call in flight (ratios: p50, lower is better)", peers, cols, cell)


def rates(f, p, w):
    """calls/s with its ratios, and the latency beside it."""
    against = ", ".join(times(f.ratio(p, w, base, "rate")) for base in ("raw-tokio", "tonic"))
    return f"{num(f.get(p, w, 'rate'))} ({against}) {num(f.get(p, w, 'p50'))}/{num(f.get(p, w, 'p99'))}"


def throughput(f, peers, size, shapes):
    name = lambda shape: f"echo-{size}-{shape}"
    calls = lambda p, c: rates(f, p, name(c)) if f.has(p, name(c)) else "n/a"
    cost = lambda p, c: (f"{num(f.get(p, name(c), 'cpu'))} ({pair(f, p, name(c), 'rss', '/')})"
                         if f.has(p, name(c)) else "n/a")
    return (table(f"Throughput, unary echo {size}: calls/s (× raw-tokio, × tonic) p50/p99 µs", peers, shapes, calls) + "\n"
            + table(f"CPU µs per call, both processes (peak RSS MiB client/server), echo {size}", peers, shapes, cost))


def lists(f, peers, names):
    cell = lambda p, w: f"{rates(f, p, w)} cpu {pair(f, p, w, 'cpu')}" if f.has(p, w) else "n/a"
    return table("200 process records: calls/s (× raw-tokio, × tonic) p50/p99 µs, cpu µs/call client+server", peers, names, cell)


def streams(f, peers, names):
    def cell(p, w):
        if not f.has(p, w):
            return "n/a"
        against = ", ".join(times(f.ratio(p, w, base, "rate")) for base in ("raw-tokio", "tonic"))
        return (f"{num(f.get(p, w, 'rate'))} msg/s, {num(f.get(p, w, 'mb_s'))} MB/s ({against}) "
                f"cpu {num(f.get(p, w, 'cpu'))} rss {pair(f, p, w, 'rss', '/')}")
    return table("Server streaming: msg/s, MB/s (× raw-tokio, × tonic), cpu µs/msg both, peak RSS MiB client/server",
                 peers, names, cell)


def beside(f, peers, names):
    def cell(p, w):
        if not f.has(p, w):
            return "n/a"
        return " / ".join(num(f.get(p, w, q) / 1000) for q in ("p50", "p99", "p999"))
    return table("64 B calls, one at a time, beside 16 calls of 1 MiB on the same connection: p50 / p99 / p99.9 in ms",
                 peers, names, cell)


def timed(f):
    """All tables of one placement."""
    present = f.workloads()
    names = [w for w in workloads() if w in present]
    measured = lambda some: sorted(set().union(*(f.peers(w) for w in some)), key=order)
    for size in SIZES:
        if f"echo-{size}-c1" in names:
            yield latency(f, measured([f"echo-{size}-c1"]), size)
    for size in SIZES:
        shapes = [s for s in SHAPES if s != "c1" and f"echo-{size}-{s}" in names]
        if shapes:
            yield throughput(f, measured([f"echo-{size}-{s}" for s in shapes]), size, shapes)
    for prefix, make in (("list", lists), ("stream", streams), ("beside", beside)):
        some = [w for w in names if w.startswith(prefix)]
        if some:
            yield make(f, measured(some), some)


def counted(f, title, cell):
    names = [w for w in workloads() if w in f.workloads()]
    return table(title, sorted(f.peers(), key=order), names, lambda p, w: cell(p, w) if f.has(p, w) else "n/a")


def syscalls(f):
    yield counted(f, "Syscalls per call (or per stream message), client+server", lambda p, w: pair(f, p, w, "syscalls"))
    for w in ("echo-64B-c1", "echo-64B-c64", "stream-64B"):
        peers = sorted(f.peers(w), key=order)
        if peers:
            yield f"Of which in {w}, client | server:\n\n" + "".join(breakdown(f, p, w) for p in peers)


def breakdown(f, p, w):
    r = f.runs(p, w)[-1]
    n = r["calls"] or 1

    def side(name):
        some = sorted(r[name]["syscalls"].items(), key=lambda kv: -kv[1])
        calls = ", ".join(f"{k} {v/n:.2f}" for k, v in some if k != "total" and v / n >= 0.05)
        return f"{calls}; switches {r[name]['vol_ctx']/n:.2f}+{r[name]['inv_ctx']/n:.2f}"
    return f"- {p}: {side('client')} | {side('server')}\n"


def allocations(f):
    return counted(f, "Allocations per call, client+server (KiB asked for)",
                   lambda p, w: f"{pair(f, p, w, 'allocs')} ({pair(f, p, w, 'alloc KiB')})")


STATIC = ["crates (normal)", "crates (normal+build)", "cold build s (-j2)", "cold build cpu s", "stripped KiB"]


def static(data):
    show = lambda p, c: f"{data['static'][p][c]:.0f}"
    return table(None, sorted(data["static"], key=order), STATIC, show)


def everything(data, rt="mt"):
    """Every table there are figures for."""
    out = []
    for pin in PINS:
        f = Figures(data, pin, rt)
        if f.by:
            many = "one round" if f.rounds() == 1 else f"medians of {f.rounds()} rounds"
            kind = "" if rt == "mt" else ", one thread a process"
            out.append(f"## Placement: {PINS[pin]}{kind}; {many}\n")
            out += timed(f)
    for kind, make in (("syscalls", syscalls), ("allocs", lambda f: [allocations(f)])):
        for pin in PINS:
            f = Figures(data, pin, rt, kind)
            if f.by:
                out.append(f"## {kind.capitalize()}, placement {PINS[pin]}\n")
                out += make(f)
    if data.get("static"):
        out += ["## A smallest program that serves and calls itself\n", static(data)]
    failed = {(p, w, why) for pin in PINS for (p, w), why in Figures(data, pin, rt).failed.items()}
    if failed:
        out.append("## Not measured\n")
        out.append("".join(f"- {p} {w}: {why}\n" for p, w, why in sorted(failed)))
    return "\n".join(out)
