"""The micro-benchmarks of bench/micro: runs them, and reads criterion's estimates."""
import json

from .contestants import TARGET, cargo


def table():
    cargo("run", "--release", "-q", "-p", "micro", "--", "--bench", "--quiet")
    lines = ["| | ns | ± |", "|---|--:|--:|"]
    for path in sorted((TARGET / "criterion").glob("**/new/estimates.json")):
        about = json.loads((path.parent / "benchmark.json").read_text())
        median = json.loads(path.read_text())["median"]
        low, high = (median["confidence_interval"][f"{end}_bound"] for end in ("lower", "upper"))
        lines.append(f"| {about['full_id']} | {median['point_estimate']:,.1f} | {(high - low) / 2 / median['point_estimate']:.1%} |")
    return "\n".join(lines) + "\n"
