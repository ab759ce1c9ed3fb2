"""The samples of all runs, kept in one JSON file under target/, and the figures that are read from them."""
import collections, json, statistics

from .contestants import HERE, TARGET

OUT = TARGET / "results.json"
# What people look at; committed.
SHOWN = HERE / "results"


def load(path):
    if path.exists():
        return json.loads(path.read_text())
    return {"runs": [], "static": {}}


def save(path, data):
    tmp = path.with_suffix(".tmp")
    tmp.write_text(json.dumps(data))
    tmp.replace(path)


def start_over(path, kinds):
    """Drops the runs of these kinds; other kinds and the static figures stay."""
    data = load(path)
    data["runs"] = [r for r in data["runs"] if r["kind"] not in kinds]
    save(path, data)


def median(values):
    values = [x for x in values if x is not None]
    return statistics.median(values) if values else None


def num(x):
    if x is None:
        return "n/a"
    if x >= 100000:
        return f"{x/1000:,.0f}k"
    if x >= 1000:
        return f"{x:,.0f}"
    return f"{x:.1f}" if x >= 10 else f"{x:.2f}"


METRICS = {
    "rate": lambda r: r["rate"],
    "p50": lambda r: r["lat_us"]["p50"],
    "p99": lambda r: r["lat_us"]["p99"],
    "p999": lambda r: r["lat_us"]["p999"],
    "mb_s": lambda r: r["mb_s"],
    "cpu": lambda r: r["cpu_us"]["both"],
    "cpu client": lambda r: r["cpu_us"]["client"],
    "cpu server": lambda r: r["cpu_us"]["server"],
    "rss client": lambda r: r["client"]["hwm_kb"] / 1024,
    "rss server": lambda r: r["server"]["hwm_kb"] / 1024,
    "syscalls client": lambda r: r["client"]["syscalls"].get("total", 0) / (r["calls"] or 1),
    "syscalls server": lambda r: r["server"]["syscalls"].get("total", 0) / (r["calls"] or 1),
    "allocs client": lambda r: r["client"]["allocs"] / (r["calls"] or 1),
    "allocs server": lambda r: r["server"]["allocs"] / (r["calls"] or 1),
    "alloc KiB client": lambda r: r["client"]["alloc_bytes"] / (r["calls"] or 1) / 1024,
    "alloc KiB server": lambda r: r["server"]["alloc_bytes"] / (r["calls"] or 1) / 1024,
}


class Figures:
    """Medians over rounds of one kind of run in one placement."""

    def __init__(self, data, pin, rt="mt", kind="time"):
        self.by = collections.defaultdict(dict)
        self.failed = {}
        for r in data["runs"]:
            if (r["pin"], r["rt"], r["kind"]) == (pin, rt, kind):
                if "rate" in r:
                    self.by[r["peer"], r["workload"]][r["round"]] = r
                else:
                    self.failed[r["peer"], r["workload"]] = r.get("error") or r["unsupported"]

    def has(self, peer, workload):
        return (peer, workload) in self.by

    def peers(self, workload=None):
        return {p for p, w in self.by if workload in (None, w)}

    def workloads(self):
        return {w for _, w in self.by}

    def rounds(self):
        return max((len(rounds) for rounds in self.by.values()), default=0)

    def runs(self, peer, workload):
        return list(self.by.get((peer, workload), {}).values())

    def get(self, peer, workload, metric):
        return median(METRICS[metric](r) for r in self.runs(peer, workload))

    def ratio(self, peer, workload, base, metric):
        """Median over rounds of the same-round ratio to `base`, which cancels what both suffered."""
        ours, theirs = (self.by.get((p, workload), {}) for p in (peer, base))
        pairs = [(METRICS[metric](r), METRICS[metric](theirs[n])) for n, r in ours.items() if n in theirs]
        return median(a / b for a, b in pairs if a and b)
