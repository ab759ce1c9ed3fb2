"""What the project wants to reach, and where it stands: one table."""
import dataclasses
from typing import Callable

from .contestants import is_peer
from .results import Figures, num


@dataclasses.dataclass
class Goal:
    what: str
    goal: str
    # (as it is shown, whether it is met); None where it was not measured.
    figure: Callable


class Evidence:
    """The figures of all placements and kinds."""

    def __init__(self, data):
        self.static = data.get("static", {})
        self.one = Figures(data, "same")
        self.many = Figures(data, "none")
        self.counted = {(kind, pin): Figures(data, pin, kind=kind) for kind in ("syscalls", "allocs") for pin in ("same", "none")}

    def best_peer(self, workload):
        peers = [p for p in self.many.peers(workload) if is_peer(p)]
        return max(peers, key=lambda p: self.many.get(p, workload, "rate"), default=None)


def judged(value, limit, less, name=""):
    if value is None:
        return None
    return f"{value:.2f} ×{name}", value <= limit if less else value >= limit


def latency(workload, what, limit):
    return Goal(what, f"≤ {limit:.2f} × raw-tokio", lambda e: judged(e.one.ratio("ipc", workload, "raw-tokio", "p50"), limit, True))


def rate(workload, what, base, limit):
    return Goal(what, f"≥ {limit:g} × {base}", lambda e: judged(e.many.ratio("ipc", workload, base, "rate"), limit, False))


def best(workload, what, limit):
    def figure(e):
        peer = e.best_peer(workload)
        return judged(peer and e.many.ratio("ipc", workload, peer, "rate"), limit, False, f" {peer}")
    return Goal(what, f"≥ {limit:g} × the best peer", figure)


def memory(side):
    value = lambda e: judged(e.many.ratio("ipc", "echo-1M-c256", "tonic", f"rss {side}"), 0.2, True)
    return Goal(f"peak memory of the {side}, 1 MiB, 256 in flight", "≤ 0.20 × tonic", value)


def beside(workload, what):
    """The p99 of small calls beside large ones: at most 10 ms, and at most half of tonic's."""
    def figure(e):
        p99, ratio = e.many.get("ipc", workload, "p99"), e.many.ratio("ipc", workload, "tonic", "p99")
        if p99 is None or ratio is None:
            return None
        return f"{p99 / 1000:.2f} ms, {ratio:.2f} × tonic", p99 <= 10_000 and ratio <= 0.5
    return Goal(what, "p99 ≤ 10 ms and ≤ 0.5 × tonic", figure)


def counted(kind, pin, workload, what, limit):
    def figure(e):
        sides = [e.counted[kind, pin].get("ipc", workload, f"{kind} {side}") for side in ("client", "server")]
        if None in sides:
            return None
        # What a timer does now and then is no call's own.
        return " + ".join(num(x) for x in sides), all(x <= limit + 0.05 for x in sides)
    return Goal(what, f"≤ {limit:g} + {limit:g}", figure)


def built(key, what, limit, unit):
    def figure(e):
        value = e.static.get("ipc", {}).get(key)
        return value and (f"{value:.0f}{unit}", value <= limit)
    return Goal(what, f"≤ {limit}{unit}", figure)


def build_time(e):
    seconds = [e.static.get(p, {}).get("cold build s (-j2)") for p in ("ipc", "tonic")]
    return judged(seconds[0] / seconds[1], 0.8, True) if all(seconds) else None


GOALS = {
    "One call in flight, both processes on one CPU": [
        latency("echo-64B-c1", "p50, 64 B", 1.05),
        latency("echo-256K-c1", "p50, 256 KiB", 1.10),
        latency("echo-1M-c1", "p50, 1 MiB", 1.10),
        counted("syscalls", "same", "echo-64B-c1", "syscalls a call, 64 B", 3),
        counted("allocs", "same", "echo-64B-c1", "allocations a call, 64 B", 2),
    ],
    "Many in flight on one connection, placement left to the scheduler": [
        rate("echo-64B-c16", "64 B, 16 in flight", "tonic", 4.5),
        rate("echo-64B-c64", "64 B, 64 in flight", "tonic", 6.5),
        best("echo-64B-c64", "64 B, 64 in flight", 2),
        rate("echo-64B-c256", "64 B, 256 in flight", "tonic", 11),
        rate("echo-64B-16x4", "64 B, 16 connections with 4 each", "tonic", 4),
        counted("syscalls", "none", "echo-64B-c64", "syscalls a call, 64 B, 64 in flight", 0.5),
        rate("echo-4K-c64", "4 KiB, 64 in flight", "tonic", 6),
        rate("echo-256K-c16", "256 KiB, 16 in flight", "capnp", 1),
        rate("echo-1M-c16", "1 MiB, 16 in flight", "capnp", 1),
    ],
    "64 B beside 16 × 1 MiB on one connection": [
        beside("beside-1M", "two workers a side"),
        beside("beside-1M-ct", "one thread a side"),
    ],
    "One server stream": [
        best("stream-64B", "64 B messages", 1.5),
        rate("stream-64K", "64 KiB messages", "raw-tokio", 0.85),
    ],
    "A list of 200 records": [
        rate("list200-c1", "calls/s", "raw-tokio", 1),
        rate("list200-c1", "calls/s", "capnp", 1),
    ],
    "Memory": [memory("client"), memory("server")],
    "A smallest program": [
        built("crates (normal)", "crates", 45, ""),
        built("stripped KiB", "stripped", 1100, " KiB"),
        Goal("clean build", "≤ 0.80 × tonic", build_time),
    ],
}


def table(data):
    evidence, lines, met, judged_goals = Evidence(data), [], 0, 0
    for group, goals in GOALS.items():
        lines += [f"| **{group}** | | | |"]
        for goal in goals:
            figure = goal.figure(evidence)
            if figure is None:
                lines.append(f"| {goal.what} | {goal.goal} | not measured | – |")
                continue
            met, judged_goals = met + figure[1], judged_goals + 1
            lines.append(f"| {goal.what} | {goal.goal} | {figure[0]} | {'met' if figure[1] else '**not met**'} |")
    head = [f"{met} of {judged_goals} goals that were measured are met; figures are medians of {evidence.many.rounds()} round(s).",
            "", "| | goal | figure | |", "|---|---|---|---|"]
    return "\n".join(head + lines) + "\n"
