"""Rounds: within one, the peers take turns on each workload, in rotating order, so that a slow drift of the machine
meets all of them."""
import dataclasses, os, subprocess, sys, time

from . import results
from .contestants import all_peers, binary, pick
from .sample import sample
from .workloads import SLOW, workloads


def turns(plan, peers, number):
    """(placement, workload, peer) in the order of round `number`."""
    for pin, names, who in plan:
        here = pick(peers, who)
        for wi, w in enumerate(pick(workloads(), names)):
            k = (number + wi) % len(here)
            for p in here[k:] + here[:k]:
                yield pin, w, p


def run(plan, peers, rounds, settings, out, kind="time", budget_s=None):
    """Adds `rounds` rounds of a plan (see workloads.SHORT) to the results in `out`."""
    data, calls = results.load(out), workloads()
    peers = pick(all_peers(), peers)
    base = max([r["round"] for r in data["runs"] if r["kind"] == kind and r["rt"] == settings.rt], default=-1) + 1
    skip = set()  # (peer, workload) known to be unsupported or failing
    t0 = time.time()
    for number in range(rounds):
        t_round = time.time()
        for pin, w, p in turns(plan, peers, number):
            if (p, w) in skip:
                continue
            exe, env = binary(p, allocs=kind == "allocs")
            now = dataclasses.replace(settings, pin=pin, syscalls=kind == "syscalls")
            r = sample(exe, calls[w], now, env, SLOW.get(w, 1))
            if "rate" not in r:
                skip.add((p, w))
            if "error" in r:
                print(f"  ! {p} {w}: {r['error']}", file=sys.stderr, flush=True)
            r.update(peer=p, workload=w, rt=settings.rt, pin=pin, kind=kind, round=base + number)
            data["runs"].append(r)
        results.save(out, data)
        took = time.time() - t_round
        print(f"{kind}: round {number + 1}/{rounds} took {took:.0f}s", file=sys.stderr, flush=True)
        if budget_s and time.time() - t0 + took > budget_s and number + 1 < rounds:
            print(f"stopping: the next round would pass --budget-s {budget_s}", file=sys.stderr)
            break
    data["meta"] = machine()
    results.save(out, data)
    return data


def machine():
    version = subprocess.run(["rustc", "-V"], capture_output=True, text=True).stdout.split()
    return {"system": f"{os.uname().sysname} {os.uname().release}", "cpus": os.cpu_count(), "rustc": version[1]}
