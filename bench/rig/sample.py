"""One sample: a fresh server process and a fresh client process, and what the client says of its window."""
import dataclasses, json, os, resource, shutil, subprocess, tempfile

PINS = {"none": "left to the scheduler", "same": "client and server on one CPU", "split": "client and server on a CPU each"}
# Of the server and of the client.
CPUS = {"none": (None, None), "same": ({0}, {0}), "split": ({1}, {0})}


UNCOUNTED = "syscalls were not counted: be root, and mount -t tracefs nodev /sys/kernel/tracing"


@dataclasses.dataclass
class Settings:
    rt: str = "mt"
    pin: str = "none"
    measure_ms: int = 400
    warm_ms: int = 120
    timeout: int = 25
    syscalls: bool = False


def placed(cpus):
    """What a process does before it becomes the program."""
    def prepare():
        if cpus:
            os.sched_setaffinity(0, cpus)
        # A thousand connections are more than the usual soft limit.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return prepare


def sample(binary, arguments, settings, env=None, slow=1):
    d = tempfile.mkdtemp(prefix="pb")
    arguments = [str(a) for a in arguments]
    # A workload that is about the runtime names it, for both sides.
    rt = arguments[arguments.index("--rt") + 1] if "--rt" in arguments else settings.rt
    both = ["--sock", f"{d}/s", "--rt", rt, *(["--syscalls"] if settings.syscalls else [])]
    window = ["--measure-ms", settings.measure_ms * slow, "--warm-ms", settings.warm_ms * slow]
    env = {**os.environ, **(env or {})}
    cpus = CPUS[settings.pin]
    srv = subprocess.Popen([binary, "server", *both], env=env, preexec_fn=placed(cpus[0]),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = srv.stdout.readline()
        if line.strip() != "READY":
            srv.kill()
            return {"error": f"server: {line!r} {srv.stderr.read()[-300:]}"}
        try:
            c = subprocess.run([binary, "client", *both, *map(str, window), *map(str, arguments)], env=env,
                               preexec_fn=placed(cpus[1]), capture_output=True, text=True, timeout=settings.timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"client exceeded {settings.timeout}s"}
        if c.returncode or not c.stdout.strip():
            return {"error": (c.stderr or f"rc {c.returncode}").strip()[-300:]}
        said = json.loads(c.stdout.strip().splitlines()[-1])
        if settings.syscalls and "rate" in said and not said["client"]["syscalls"].get("total"):
            return {"error": UNCOUNTED}
        return said
    finally:
        srv.kill()
        srv.wait()
        srv.stdout.close()
        srv.stderr.close()
        shutil.rmtree(d, ignore_errors=True)
