"""How the cost grows: calls/s and memory against connections, calls in flight, payload and registered methods."""
import dataclasses, math, sys, time
from typing import Callable

from . import results
from .contestants import TARGET, binary
from .results import median, num
from .sample import Settings, sample

OUT = TARGET / "growth.json"
# Contestants raise their limits for this: frames of 16 MiB, 1024 connections and calls.
LIMITS = {"PEER_LIMITS": "1"}
MiB = 1024 * 1024


@dataclasses.dataclass
class Curve:
    """One thing that grows. `work` is how many calls belong to one step of it."""
    name: str
    axis: str
    points: list
    peers: list
    pin: str
    arguments: Callable
    environment: Callable
    work: Callable


def echo(size=64, conns=1, inflight=1):
    return ["--workload", "echo", "--size", size, "--conns", conns, "--inflight", inflight]


CURVES = [
    Curve("connections", "connections, one call in flight on each", [1, 4, 16, 64, 256, 1000], ["ipc", "raw-mux", "tonic"], "none",
          lambda n: echo(conns=n), lambda n: LIMITS, lambda n: n),
    Curve("inflight", "calls in flight on one connection", [1, 4, 16, 64, 256, 1024], ["ipc", "raw-mux", "tonic"], "none",
          lambda n: echo(inflight=n), lambda n: LIMITS, lambda n: n),
    # The largest leaves room for the envelope in 16 MiB.
    Curve("payload", "payload, bytes", [0, 64, 1024, 16 * 1024, 256 * 1024, MiB, 4 * MiB, 16 * MiB - 1024], ["ipc", "raw-mux", "tonic"],
          "same", lambda n: echo(size=n), lambda n: LIMITS, lambda n: 1),
    Curve("methods", "methods that the server has registered", [1, 10, 100, 1000], ["ipc"], "same",
          lambda n: echo(), lambda n: {"GROWTH_METHODS": str(n)}, lambda n: 1),
]


def program(curve, peer):
    if curve.name != "methods":
        return binary(peer)[0]
    path = TARGET / "release" / "growth-methods"
    if not path.exists():
        sys.exit(f"{path} is missing: run ./bench.py build")
    return path


def run(rounds, settings: Settings):
    runs = []
    for number in range(rounds):
        t0 = time.time()
        for curve in CURVES:
            now = dataclasses.replace(settings, pin=curve.pin, timeout=60)
            for n in curve.points:
                for peer in curve.peers:
                    slow = 3 if curve.name == "payload" and n >= 4 * MiB else 1
                    r = sample(program(curve, peer), curve.arguments(n), now, curve.environment(n), slow)
                    if "error" in r:
                        print(f"  ! {peer} {curve.name} {n}: {r['error']}", file=sys.stderr, flush=True)
                    else:
                        runs.append({"curve": curve.name, "peer": peer, "n": n, "rate": r["rate"],
                                     **{side: r[side]["hwm_kb"] / 1024 for side in ("client", "server")}})
        results.save(OUT, {"runs": runs, "rounds": number + 1})
        print(f"growth: round {number + 1}/{rounds} took {time.time() - t0:.0f}s", file=sys.stderr, flush=True)


def line(data, curve, peer, what):
    """(n, median) along a curve."""
    points = []
    for n in curve.points:
        values = [r[what] for r in data["runs"] if (r["curve"], r["peer"], r["n"]) == (curve.name, peer, n)]
        if values:
            points.append((n, median(values)))
    return points


def slope(a, b):
    """Of the line between two points, in logarithms: 1 is linear, 0 constant."""
    return math.log(b[1] / a[1]) / math.log(b[0] / a[0])


def row(curve, what, points):
    # Nothing has no logarithm.
    points = [(n, v) for n, v in points if n > 0]
    first, last = points[0], points[-1]
    a, b = max(zip(points, points[1:]), key=lambda step: slope(*step))
    return (f"| {curve.axis}, {first[0]:,} to {last[0]:,} | {what} | {num(first[1])} | {num(last[1])} | {slope(first, last):.2f} | "
            f"{slope(a, b):.2f} ({a[0]:,} to {b[0]:,}) | {'yes' if slope(first, last) <= 1 else '**no**'} |")


def table(data):
    lines = [f"Medians of {data['rounds']} round(s). The slope is that of the curve in logarithms: 0 is constant, 1 is linear.", "",
             "| against | what | first | last | slope between the ends | steepest step | no worse than linear |",
             "|---|---|--:|--:|--:|--:|---|"]
    for curve in CURVES:
        rates = line(data, curve, "ipc", "rate")
        if len(rates) < 2:
            continue
        cost = [(n, curve.work(n) / rate * 1e6) for n, rate in rates]
        each = "µs for a call on each" if curve.work(2) == 2 else "µs a call"
        rows = [(each, cost), *((f"{side}'s peak MiB", line(data, curve, "ipc", side)) for side in ("client", "server"))]
        lines += [row(curve, what, points) for what, points in rows]
    return "\n".join(lines) + "\n"


def figures(data):
    """All points of all contestants."""
    out = []
    for curve in CURVES:
        cols = [f"{n:,}" for n in curve.points]
        out += [f"## {curve.axis}\n", "| | " + " | ".join(cols) + " |", "|---|" + "--:|" * len(cols)]
        for peer in curve.peers:
            for what, name in (("rate", "calls/s"), ("client", "client MiB"), ("server", "server MiB")):
                found = dict(line(data, curve, peer, what))
                out.append(f"| {peer}, {name} | " + " | ".join(num(found.get(n)) for n in curve.points) + " |")
        out.append("")
    return "\n".join(out)
