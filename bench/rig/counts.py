"""Instructions of one call and of one streamed item, on each side, by callgrind.

Each side runs under callgrind while the other runs as it is; that one is many times faster and so always waits. A run
with N calls and one with 2N differ by N calls: what starts and ends a program cancels out."""
import re, shutil, subprocess, sys, tempfile

from .contestants import TARGET, cargo

# Of `count client`: what it does, and how often.
WORK = {"unary call of 64 B": ("unary", 500), "streamed item of 64 B": ("stream", 5000)}
# The least of so many short runs: that a socket may be read and may be written is now told in one event, now in two,
# as the other side is scheduled, and the second costs a turn of the runtime.
RUNS = 5


def build():
    cargo("build", "--release", "-q", "-p", "count")


def instructions(side, what, times):
    """What callgrind collects of one side."""
    program, directory = str(TARGET / "release/count"), tempfile.mkdtemp(prefix="cnt")
    under = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out"]
    command = lambda name, *rest: [*(under if side == name else []), program, name, f"{directory}/s", *rest]
    try:
        server = subprocess.Popen(command("server"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if server.stdout.readline().strip() != "READY":
            sys.exit(f"the server did not start: {server.stderr.read()[-500:]}")
        client = subprocess.run(command("client", what, str(times)), capture_output=True, text=True)
        # It stops when its input ends.
        server_says = server.communicate()[1]
        if client.returncode or server.returncode:
            sys.exit(f"count failed: {client.stderr[-500:]} {server_says[-500:]}")
        said = client.stderr if side == "client" else server_says
        return int(re.search(r"Collected\s*:\s*(\d+)", said)[1])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def each(side, what, times):
    least = lambda n: min(instructions(side, what, n) for _ in range(RUNS))
    return (least(2 * times) - least(times)) / times


def table():
    if not shutil.which("valgrind"):
        sys.exit("instructions are counted by callgrind, which is missing: apt-get install valgrind")
    build()
    lines = ["| instructions | client | server | counted again, at most off by |", "|---|--:|--:|--:|"]
    for name, (what, times) in WORK.items():
        found = {side: [each(side, what, times) for _ in range(2)] for side in ("client", "server")}
        apart = max((max(v) - min(v)) / min(v) for v in found.values())
        lines.append(f"| {name} | {min(found['client']):,.0f} | {min(found['server']):,.0f} | {apart:.2%} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"
