#!/usr/bin/env python3
"""Measures this project's stubs beside other stacks, and writes tables and plots into results/. See README.md.

  bench.py short                          builds, measures what the goals name, writes goals, tables, plots
  bench.py long                           all of it, growth, counts, build costs and micro-benchmarks too
  bench.py growth | counts | micro | stubs | static      one of these parts
  bench.py plots                          tables and plots again from what was measured last
  bench.py list                           peers and workloads
  bench.py build [--peers ...]            cargo build --release of the contestants
  bench.py run [--kind ...] [...]         rounds of chosen peers and workloads, into the JSON
  bench.py report                         prints the tables of the JSON
"""
import argparse, pathlib, subprocess

from rig import contestants, counts, goals, growth, micro, pages, plots, results, rounds, static, tables, workloads
from rig.contestants import COMPARED
from rig.sample import PINS, Settings


def settings(a):
    return Settings(rt=a.rt, measure_ms=a.measure_ms, warm_ms=a.warm_ms, timeout=a.timeout)


def compare(a, name, plan, count, peers):
    """The timed rounds of a plan, the counters, and what is shown of them."""
    results.start_over(a.out, ["time", "syscalls", "allocs"])
    rounds.run(plan, peers, count, settings(a), a.out)
    for kind in ("syscalls", "allocs"):
        rounds.run(workloads.COUNTED[name], peers, 1, settings(a), a.out, kind)
    show(a, name)


def show(a, name):
    data = results.load(a.out)
    pages.write("goals", goals.table(data), data["meta"], a.note)
    pages.write(name, tables.everything(data, a.rt), data["meta"], a.note)
    if not a.no_plots:
        plots.compared(data)


def build(peers, allocs):
    contestants.build(peers)
    contestants.build(allocs, allocs=True)


def cmd_short(a):
    chosen = contestants.pick(contestants.all_peers(), a.peers or COMPARED)
    build(chosen, ["ipc"])
    compare(a, "short", workloads.SHORT, a.rounds or 5, ",".join(chosen))


def cmd_long(a):
    chosen = contestants.pick(contestants.all_peers(), a.peers or COMPARED)
    build(chosen, chosen)
    measure_static(a, "ipc,tonic")
    compare(a, "long", workloads.LONG, a.rounds or 7, ",".join(chosen))
    cmd_growth(a)
    cmd_counts(a)
    cmd_micro(a)
    cmd_stubs(a)


def cmd_growth(a):
    contestants.build(["ipc", "raw-mux", "tonic"])
    contestants.cargo("build", "--release", "-q", "-p", "growth-methods")
    growth.run(a.rounds or 5, settings(a))
    show_growth(a)


def show_growth(a):
    data = results.load(growth.OUT)
    pages.write("growth", growth.table(data), rounds.machine(), a.note)
    pages.write("growth-points", growth.figures(data), rounds.machine(), a.note)
    if not a.no_plots:
        plots.grown(data)


def cmd_counts(a):
    pages.write("counts", counts.table(), note=a.note)


def cmd_micro(a):
    pages.write("micro", micro.table(), rounds.machine(), a.note)


def cmd_stubs(a):
    program = [str(contestants.HERE / "stubs.py"), "--rounds", str(a.rounds or 5)]
    pages.write("stubs", subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True).stdout, note=a.note)


def cmd_static(a):
    measure_static(a, a.peers or "ipc,tonic")


def measure_static(a, programs):
    static.run(programs, a.out)
    pages.write("static", tables.static(results.load(a.out)), rounds.machine(), a.note)


def cmd_plots(a):
    """Of both comparisons, the one that was measured last is in the JSON."""
    kinds = {r["workload"] for r in results.load(a.out)["runs"]}
    show(a, "long" if "echo-256K-c64" in kinds else "short")
    if growth.OUT.exists():
        show_growth(a)


def cmd_build(a):
    chosen = contestants.pick(contestants.all_peers(), a.peers or COMPARED)
    build(chosen, chosen if a.allocs else [])


def cmd_run(a):
    if a.fresh:
        results.start_over(a.out, ["time", "syscalls", "allocs"])
    count = (a.rounds or 3) if a.kind == "time" else 1
    rounds.run([(a.pin, a.workloads, "*")], a.peers or COMPARED, count, settings(a), a.out, a.kind, a.budget_s)
    cmd_report(a)


def cmd_report(a):
    print(tables.everything(results.load(a.out), a.rt))


def cmd_list(_):
    print("peers:", ", ".join(contestants.all_peers()))
    print("workloads:", ", ".join(workloads.workloads()))


COMMANDS = {name.removeprefix("cmd_"): run for name, run in globals().items() if name.startswith("cmd_")}
DRAW = {"short", "long", "growth", "plots"}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(dest="command", required=True)
    for name, run in COMMANDS.items():
        p = sub.add_parser(name)
        p.set_defaults(run=run)
        p.add_argument("--peers", help="comma-separated names or globs")
        p.add_argument("--workloads", help="comma-separated names or globs")
        p.add_argument("--rounds", type=int, help="short and growth: 5, long: 7, run: 3")
        p.add_argument("--rt", choices=["mt", "ct"], default="mt", help="both sides: multi_thread (2 workers) or current_thread")
        p.add_argument("--pin", choices=list(PINS), default="none", help="run: CPU placement of the two processes")
        p.add_argument("--kind", choices=["time", "syscalls", "allocs"], default="time")
        p.add_argument("--measure-ms", type=int, default=400)
        p.add_argument("--warm-ms", type=int, default=120)
        p.add_argument("--timeout", type=int, default=25, help="seconds for one client run")
        p.add_argument("--budget-s", type=int, default=460, help="run: start no round that would end after this")
        p.add_argument("--fresh", action="store_true", help="run: drop earlier runs from the JSON (static figures stay)")
        p.add_argument("--allocs", action="store_true", help="build: with the counting allocator, too")
        p.add_argument("--note", help="what is said on top of the tables")
        p.add_argument("--no-plots", action="store_true")
        p.add_argument("--out", type=pathlib.Path, default=results.OUT)
    a = ap.parse_args()
    if a.command in DRAW and not a.no_plots:
        plots.library()  # Says what is missing before an hour of measuring.
    a.run(a)


main()
