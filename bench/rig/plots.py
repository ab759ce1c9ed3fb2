"""The pictures of results/, as SVG."""
import sys

from . import growth
from .contestants import order
from .results import SHOWN, Figures, num

OURS, RAW, PEER = "#d1495b", "#b9c4cc", "#6c8ea4"


def library():
    try:
        import matplotlib
    except ImportError:
        sys.exit("the plots are drawn by matplotlib, which is missing: pip install matplotlib (or give --no-plots)")
    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9,
                                "axes.spines.top": False, "axes.spines.right": False})
    from matplotlib import pyplot
    return pyplot


def save(figure, name):
    SHOWN.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(SHOWN / f"{name}.svg", metadata={"Date": None, "Creator": None})
    print(f"drew {(SHOWN / name).relative_to(SHOWN.parent)}.svg", file=sys.stderr)


def colour(peer):
    return OURS if peer == "ipc" else RAW if peer.startswith("raw-") else PEER


def bars(axis, figures, workload, metric, title, more_is_better):
    """One bar for each contestant, the best on top."""
    values = {p: figures.get(p, workload, metric) for p in figures.peers(workload)}
    peers = sorted((p for p in values if values[p]), key=lambda p: (values[p] if more_is_better else -values[p], order(p)))
    drawn = axis.barh(peers, [values[p] for p in peers], color=[colour(p) for p in peers])
    axis.bar_label(drawn, [num(values[p]) for p in peers], padding=2, fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.margins(x=0.2)
    axis.spines["bottom"].set_visible(False)


def panels(plt, name, title, panels, columns=3):
    """`panels`: (figures, workload, metric, title, more is better); those without figures are left out."""
    panels = [p for p in panels if p[0].peers(p[1])]
    if not panels:
        return
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.3 * columns, 2.3 * rows + 0.4), squeeze=False)
    figure.suptitle(title, fontsize=11)
    for axis in axes.flat[len(panels):]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels):
        bars(axis, *panel)
    save(figure, name)
    plt.close(figure)


def compared(data):
    """The pictures of the comparison."""
    plt = library()
    one, many = Figures(data, "same"), Figures(data, "none")
    panels(plt, "latency", "p50 in µs, one call in flight, both processes on one CPU: shorter is better",
           [(one, f"echo-{s}-c1", "p50", t, False) for s, t in (("64B", "64 B"), ("256K", "256 KiB"), ("1M", "1 MiB"))])
    panels(plt, "throughput", "calls/s, placement left to the scheduler: longer is better",
           [(many, f"echo-{w}", "rate", t, True) for w, t in (
               ("64B-c16", "64 B, 16 in flight"), ("64B-c64", "64 B, 64 in flight"), ("64B-c256", "64 B, 256 in flight"),
               ("64B-16x4", "64 B, 16 connections, 4 each"), ("4K-c64", "4 KiB, 64 in flight"),
               ("256K-c16", "256 KiB, 16 in flight"), ("1M-c16", "1 MiB, 16 in flight"))] + [
               (many, "list200-c1", "rate", "list of 200 records, one in flight", True)])
    panels(plt, "streams", "one server stream: longer is better",
           [(many, "stream-64B", "rate", "64 B, messages/s", True), (many, "stream-64K", "mb_s", "64 KiB, MB/s", True)], 2)
    panels(plt, "memory", "peak memory in MiB, 1 MiB, 256 in flight on one connection: shorter is better",
           [(many, "echo-1M-c256", f"rss {side}", side, False) for side in ("client", "server")], 2)


def scaled(axis, curve, title):
    """Logarithmic axes with plain numbers; a decade at least, so that a flat curve looks flat."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    # 0 bytes have their place left of 64.
    axis.set_xscale("symlog" if 0 in curve.points else "log", **({"linthresh": 16} if 0 in curve.points else {}))
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    wider = max(1, (10 * low / high) ** 0.5)
    axis.set_ylim(low / wider, high * wider)
    short = FuncFormatter(lambda n, _: f"{n:g}" if n < 1e3 else f"{n / 1e3:g}k" if n < 1e6 else f"{n / 1e6:g}M")
    axis.xaxis.set_major_formatter(short)
    axis.yaxis.set_major_formatter(short)
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel(curve.axis)
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=7, frameon=False)
    axis.grid(alpha=0.3)


def grown(data):
    """One picture for each curve: calls/s, and peak memory of each side."""
    plt = library()
    for curve in growth.CURVES:
        figure, axes = plt.subplots(1, 2, figsize=(9, 3))
        for peer in curve.peers:
            draw = {"color": colour(peer), "marker": "o", "markersize": 3}
            axes[0].plot(*zip(*growth.line(data, curve, peer, "rate")), label=peer, **draw)
            for side, style in (("client", "-"), ("server", ":")):
                axes[1].plot(*zip(*growth.line(data, curve, peer, side)), label=f"{peer}, {side}", linestyle=style, **draw)
        scaled(axes[0], curve, "calls/s")
        scaled(axes[1], curve, "peak memory, MiB")
        save(figure, f"growth-{curve.name}")
        plt.close(figure)
