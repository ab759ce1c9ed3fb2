"""What is called, in which shapes, and which of it the short and the long comparison run."""
import collections

SIZES = {"64B": 64, "4K": 4096, "256K": 256 * 1024, "1M": 1024 * 1024 - 1024}
# Connections, and calls in flight on each.
SHAPES = {"c1": (1, 1), "c16": (1, 16), "c64": (1, 64), "c256": (1, 256), "16x4": (16, 4)}
# Slow shapes need a longer warm-up and window to see complete calls.
SLOW = {"beside-1M": 4, "beside-1M-ct": 4, "echo-1M-c256": 4, "echo-1M-c64": 2, "echo-1M-16x4": 2, "echo-256K-c256": 2}

# Placement, workloads, peers.
SHORT = [
    ("same", "echo-64B-c1,echo-256K-c1,echo-1M-c1,list200-c1", "*"),
    ("none", "echo-64B-c16,echo-64B-c64,echo-64B-c256,echo-64B-16x4,echo-4K-c64,list200-c1,stream-64K", "*"),
    ("none", "echo-256K-c16,echo-1M-c16", "ipc,raw-mux,capnp,tarpc,tonic"),
    ("none", "stream-64B", "ipc,raw-tokio,raw-mux,connect,tonic"),
    ("none", "echo-1M-c256", "ipc,tonic"),
    ("none", "beside-1M,beside-1M-ct", "ipc,raw-mux,tonic"),
]
LONG = [("same", "*-c1,stream-*", "*"), ("none", "*", "*")]
# Of which system calls and allocations are counted, in one round.
COUNTED = {
    "short": [("same", "echo-64B-c1", "ipc"), ("none", "echo-64B-c64", "ipc")],
    "long": [("same", "*-c1", "*"), ("none", "echo-64B-c16,echo-64B-c64,echo-64B-c256,echo-64B-16x4,stream-*", "*")],
}


def workloads():
    """Name -> arguments of the client."""
    w = collections.OrderedDict()
    for shape, (conns, inflight) in SHAPES.items():
        for s, n in SIZES.items():
            w[f"echo-{s}-{shape}"] = ["--workload", "echo", "--size", n, "--conns", conns, "--inflight", inflight]
    for shape in ("c1", "c16"):
        conns, inflight = SHAPES[shape]
        w[f"list200-{shape}"] = ["--workload", "list", "--size", 200, "--conns", conns, "--inflight", inflight]
    # Small calls, one at a time, beside 16 of 1 MiB on the same connection; also with one thread a side.
    beside = ["--workload", "echo", "--size", 64, "--beside", 16, "--beside-size", SIZES["1M"]]
    w["beside-1M"] = beside
    w["beside-1M-ct"] = [*beside, "--rt", "ct"]
    w["stream-64B"] = ["--workload", "stream", "--size", 64, "--count", 100_000]
    w["stream-64K"] = ["--workload", "stream", "--size", 65536, "--count", 4096]
    return w
