#!/usr/bin/env python3
"""Measures our servers beside others: builds everything, runs it, writes tables and charts into results/.

    ./bench.py                                   all: echo, scaling, codec
    ./bench.py echo                              the servers of servers.toml through scenarios.toml
    ./bench.py scaling                           how cost grows with connections and with the size of messages
    ./bench.py codec                             codecs without sockets: ns and instructions a message
    ./bench.py echo --scenario b16,c --only ws-tokio,tag:ceiling
    ./bench.py echo --pair ws-tokio,yawc --scenario b16 --rounds 15
    ./bench.py --report                          the tables and charts again, from the lines that are kept

Rounds are interleaved: in each of them every server is measured once, in an order that rotates from round to round,
and servers that are not being measured are stopped. A run of a part (--scenario, --only, --skip, --pair) writes into
target/results instead, unless --results says where. See README.md for the method.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib

sys.dont_write_bytecode = True
import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
NPM = TARGET / "npm"
PLACES = {
    "target": TARGET / "release",
    "ours": pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release",
    "npm": NPM,
    "bench": HERE,
}
LOAD, CODEC = PLACES["target"] / "load", PLACES["target"] / "codec"

START_SECONDS = 10  # until a server listens
LOAD_SECONDS = 120  # for one measurement, whatever it waits for
MEMORY_SECONDS = 3  # what one measurement of memory takes, about
CONNECTIONS_A_SECOND = 5000
SPARE_FILES = 100  # descriptors that a server has open besides its connections
PARTS = ("echo", "scaling", "codec")

CODEC_CASES = [
    ("binary", 16, 30000),
    ("binary", 128, 10000),
    ("binary", 4096, 1000),
    ("binary", 65536, 96),
    ("binary", 1 << 20, 12),
    ("utf8", 4096, 1000),
]
# Callgrind counts each step of `rep movsb` as an instruction; this keeps glibc's copies to vector loops.
TUNABLES = "glibc.cpu.x86_rep_movsb_threshold=100000000:glibc.cpu.x86_rep_stosb_threshold=100000000"


def main():
    args = arguments()
    listed, scenarios, series = configuration(args)
    servers = chosen(listed, args)
    parts = [part for part in PARTS if part in args.parts]
    args.results.mkdir(parents=True, exist_ok=True)
    if not args.report:
        if not args.no_build:
            build(servers, parts)
        if {"echo", "scaling"} & set(parts):
            servers = [server for server in servers if is_built(server)]
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for part in parts:
        kept = args.results / f"{part}.jsonl"
        if args.report:
            if not kept.exists():
                continue
        elif part == "codec":
            measure_codecs(kept, args)
        else:
            measure(scenarios if part == "echo" else expanded(series), servers, kept, args)
        with open(kept, encoding="utf-8") as lines:
            if part == "codec":
                report.write_codec(list(lines), args.results)
                continue
            run = report.Run(lines)
        if part == "echo":
            report.write_scenarios(run, scenarios, listed, args.results)
            if args.pair:
                print(report.paired(run, scenarios, *args.pair))
        else:
            report.write_scaling(run, series, listed, args.results)
        print(f"{args.results / part}.md")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: [name.strip() for name in text.split(",")]
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS), help="default: all of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warmup-ms", type=int, default=200)
    parser.add_argument("--measure-ms", type=int, default=700)
    parser.add_argument("--scenario", type=names, help="only these, and points of scaling such as conns-100")
    parser.add_argument("--only", type=names, default=[], help="servers by name, or by tag as in tag:ours")
    parser.add_argument("--skip", type=names, default=[])
    parser.add_argument("--pair", type=names, help="A,B: these two alone, and their ratio in every round")
    parser.add_argument("--servers", action="append", default=[], help="one more file of servers")
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    parser.add_argument("--results", type=pathlib.Path, help="where to write")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(unknown)}")
    if args.pair and len(args.pair) != 2:
        parser.error("--pair takes two names")
    is_whole = not (args.scenario or args.only or args.skip or args.pair)
    args.parts = args.parts or PARTS
    args.only = args.pair or args.only
    args.results = args.results or (HERE if is_whole or args.report else TARGET) / "results"
    return args


# What is measured


def configuration(args):
    """Servers, scenarios and series of scaling."""
    servers = []
    for file in [HERE / "servers.toml", *args.servers]:
        servers += tomllib.loads(pathlib.Path(file).read_text(encoding="utf-8"))["server"]
    file = tomllib.loads((HERE / "scenarios.toml").read_text(encoding="utf-8"))
    scenarios, series = file["scenario"], file["scaling"]
    if args.scenario:
        points = {f"{one['id']}-{x}" for one in series for x in one["x"]}
        known = points | {scenario["id"] for scenario in scenarios}
        if unknown := set(args.scenario) - known:
            sys.exit(f"no scenario is called {', '.join(unknown)}")
        scenarios = [scenario for scenario in scenarios if scenario["id"] in args.scenario]
        series = [{**one, "x": [x for x in one["x"] if f"{one['id']}-{x}" in args.scenario]} for one in series]
    return servers, scenarios, series


def chosen(servers, args):
    def is_among(server, words):
        return server["name"] in words or any(f"tag:{tag}" in words for tag in server["tags"])

    return [s for s in servers if (not args.only or is_among(s, args.only)) and not is_among(s, args.skip)]


def expanded(series):
    """The scenarios of a series, one for each x."""
    for one in series:
        for x in one["x"]:
            yield {"id": f"{one['id']}-{x}", "title": one["title"], "load": one["load"].format(x=x)}


def connections(scenario):
    return int(re.search(r"--conns (\d+)", scenario["load"])[1])


def takes_part(server, scenario):
    need = scenario.get("need")
    return (not need or need in server) and not (scenario.get("kind") == "mem" and server.get("raw"))


# Building


def build(servers, parts):
    """Builds what is to be measured. What does not build is left out, with a word.

    Each peer has its own cargo run, so that cargo does not unify the features of what they depend on.
    """
    wanted = {"load": HERE, **({"codec": HERE} if "codec" in parts else {})}
    wanted = [(HERE, ["-p", name]) for name in wanted]
    for server in servers if {"echo", "scaling"} & set(parts) else []:
        program = server["cmd"].split()[0]
        if program.startswith("{target}/"):
            wanted.append((HERE, ["-p", program.removeprefix("{target}/")]))
        elif program.startswith("{ours}/"):
            wanted.append((ROOT, ["-p", "ws-examples", "--bin", program.removeprefix("{ours}/")]))
        elif not (NPM / "node_modules").exists() or stale(NPM / "package.json", HERE / "js/package.json"):
            NPM.mkdir(parents=True, exist_ok=True)
            (NPM / "package.json").write_bytes((HERE / "js/package.json").read_bytes())
            tried(["npm", "install", "--no-audit", "--no-fund", "--silent"], NPM)
    wanted = [step for i, step in enumerate(wanted) if step not in wanted[:i]]
    for i, (folder, words) in enumerate(wanted):
        print(f"build {i + 1} of {len(wanted)}: {words[-1]}", flush=True)
        tried(["cargo", "build", "--release", "--quiet", *words], folder)


def stale(copy, source):
    return not copy.exists() or copy.read_bytes() != source.read_bytes()


def tried(command, folder):
    if not shutil.which(command[0]):
        return print(f"  {command[0]} is not there", flush=True)
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        why = next((line for line in done.stderr.splitlines() if line.startswith("error")), "")
        print(f"  {shlex.join(command)} failed: {why}", flush=True)


def is_built(server):
    """Whether its program is there."""
    program = server["cmd"].split()[0].format(**PLACES, port=0)
    if shutil.which(program):
        return True
    print(f"without {server['name']}: {program} is not there", flush=True)
    return False


# Servers and load


class Server:
    """A server that runs, on a core of its own."""

    def __init__(self, spec, scenario, core, log):
        self.spec, self.is_warm = spec, False
        self.port = free_port()
        command = spec["cmd"].format(**PLACES, port=self.port) + " " + spec.get(scenario.get("need"), "")
        env = {key: value.format(**PLACES) for key, value in spec.get("env", {}).items()}
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *shlex.split(command)],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            self.wait_up()
        except TimeoutError:
            self.stop()
            raise

    def wait_up(self):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", self.port), 0.5).close()
            time.sleep(0.02)
        raise TimeoutError("did not start")

    def freeze(self, on):
        """Stops it from doing anything, whatever its timers, or lets it go on."""
        self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.freeze(False)
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def measure(self, scenario, core, args):
        command = ["taskset", "-c", str(core), LOAD, *shlex.split(scenario["load"])]
        command += ["--addr", f"127.0.0.1:{self.port}", "--pid", str(self.process.pid)]
        command += ["--raw"] if self.spec.get("raw") else []
        if scenario.get("kind") != "mem":
            first = 0 if self.is_warm else self.spec.get("warmup_ms", 0)
            command += ["--warmup-ms", str(max(first, args.warmup_ms)), "--measure-ms", str(args.measure_ms)]
        self.is_warm = True
        try:
            before = ticks(self.process.pid)
            done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=LOAD_SECONDS)
            result = json.loads(done.stdout.splitlines()[-1])
            with contextlib.suppress(OSError):  # it may have died
                user, system = (after - at for after, at in zip(ticks(self.process.pid), before, strict=True))
                result["server_user_share"] = user / max(user + system, 1)
            return result
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {LOAD_SECONDS} s"}
        except FileNotFoundError:
            return {"error": "the server is gone"}
        except (IndexError, ValueError):
            return {"error": f"the load generator ended with {done.returncode}: {done.stderr[-200:]}"}


def ticks(pid):
    """What a process has run in user mode and in the kernel: whole ticks, so only long runs tell."""
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return [int(field) for field in stat.rpartition(")")[2].split()[11:13]]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def cores():
    """One for the server, one for the load; the same where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


# Runs


def measure(scenarios, servers, kept, args):
    """Runs the servers through the scenarios; each result is a line of `kept`."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    plan = []
    for scenario in scenarios:
        if connections(scenario) + SPARE_FILES > limit:
            print(f"without {scenario['id']}: it takes {connections(scenario)} open files, the limit is {limit}")
        elif taking_part := [server for server in servers if takes_part(server, scenario)]:
            # Memory is the same in every round.
            memory = scenario.get("kind") == "mem"
            seconds = MEMORY_SECONDS if memory else (args.warmup_ms + args.measure_ms) / 1000
            seconds += connections(scenario) / CONNECTIONS_A_SECOND
            plan.append((scenario, taking_part, 1 if memory else args.rounds, seconds))
    progress = Progress(sum(len(taking_part) * rounds * seconds for _, taking_part, rounds, seconds in plan))
    server_core, load_core = cores()

    with open(kept, "w", encoding="utf-8") as out, open(f"{kept}.log", "w", encoding="utf-8") as log:

        def keep(**line):
            print(json.dumps(line), file=out, flush=True)

        keep(meta=circumstances(servers, args))
        for scenario, taking_part, rounds, seconds in plan:
            running, failed = {}, set()
            try:
                for turn in range(rounds):
                    shift = turn % len(taking_part)
                    for server in taking_part[shift:] + taking_part[:shift]:
                        name = server["name"]
                        progress.show(f"{scenario['id']}  round {turn + 1} of {rounds}", name)
                        progress.done += seconds
                        if name in failed:
                            continue
                        try:
                            if name in running:
                                running[name].freeze(False)
                            else:
                                running[name] = Server(server, scenario, server_core, log)
                            core = server_core if scenario.get("same_core") else load_core
                            result = running[name].measure(scenario, core, args)
                            running[name].freeze(True)
                        except TimeoutError as error:
                            result = {"error": str(error)}
                        keep(scenario=scenario["id"], server=name, round=turn, result=result)
                        if "error" in result:
                            failed.add(name)
                            progress.note(f"{scenario['id']}: {name}: {result['error']}")
                        if name in running and ("error" in result or scenario.get("kind") == "mem"):
                            running.pop(name).stop()
            finally:
                for server in running.values():
                    server.stop()
        progress.end()


def measure_codecs(kept, args):
    """The codecs' times, in rounds inside one process, and their instructions, of which there is no doubt."""
    with open(kept, "w", encoding="utf-8") as out:
        print(json.dumps({"meta": circumstances([], args)}), file=out)
        codecs = printed(CODEC, "libs").splitlines()
        progress = Progress(len(codecs) * (1 + len(CODEC_CASES)))
        progress.show("ns a message", "")
        out.write(printed("taskset", "-c", str(cores()[0]), CODEC, "bench", str(args.rounds)))
        progress.done += len(codecs)
        if not shutil.which("valgrind"):
            progress.note("without instructions: valgrind is not there")
            codecs = []
        for codec in codecs:
            for kind, size, count in CODEC_CASES:
                progress.show(codec, f"{kind} {size} B")
                progress.done += 1
                (more, more_messages), (less, messages) = (
                    instructions(codec, kind, size, count) for count in (3 * count, count)
                )
                line = {"codec": codec, "kind": kind, "size": size}
                line["instructions"] = round((more - less) / (more_messages - messages))
                print(json.dumps(line), file=out, flush=True)
        progress.end()


def printed(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout


def instructions(codec, kind, size, count):
    """What a run takes, set-up and all, and how many messages it had."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [CODEC, "once", codec, str(size), kind, str(count)]
    env = {**os.environ, "GLIBC_TUNABLES": TUNABLES}
    done = subprocess.run(command, env=env, capture_output=True, encoding="utf-8", check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1]), int(done.stdout)


class Progress:
    """Where a run is and what time is left: one line on a terminal, a line a round elsewhere."""

    def __init__(self, total, out=sys.stdout, clock=time.monotonic):
        self.total, self.done, self.out, self.clock = total, 0, out, clock
        self.start, self.place = clock(), None

    def left(self):
        """Minutes and seconds, by what it took until here. Until something is done, by plan."""
        pace = (self.clock() - self.start) / self.done if self.done else 1
        seconds = round((self.total - self.done) * pace)
        return f"{seconds // 60}:{seconds % 60:02} left"

    def show(self, place, server):
        if self.out.isatty():
            self.out.write(f"\r\033[K{self.left():>11}  {place}  {server}")
        elif place != self.place:
            self.out.write(f"{self.left():>11}  {place}\n")
        self.place = place
        self.out.flush()

    def note(self, text):
        """Something to be read afterwards."""
        self.out.write(f"\r\033[K{text}\n" if self.out.isatty() else f"{text}\n")

    def end(self):
        if self.out.isatty():
            self.out.write("\r\033[K")


# Circumstances


def circumstances(servers, args):
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit(),
        "machine": machine(),
        "load": f"{os.getloadavg()[0]:.2f}",
        "rounds": args.rounds,
        "warmup_ms": args.warmup_ms,
        "measure_ms": args.measure_ms,
        "versions": {server["name"]: versions(server) for server in servers},
    }


def output(*command):
    """The first line of what a program prints, or nothing."""
    with contextlib.suppress(OSError):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        return next(iter(done.stdout.splitlines()), "")
    return ""


def commit():
    changed = output("git", "status", "--porcelain", "--untracked-files=no")
    return output("git", "rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    name = cpu[1] if cpu else platform.machine()
    kernel = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} x {name}, {memory:.0f} GiB, {kernel}, {output('rustc', '--version')}"


def versions(server):
    """Of the packages that it names, as the lock files have them."""
    # Ours have the repository's own lock.
    is_ours = server["cmd"].startswith("{ours}/")
    locked = tomllib.loads(((ROOT if is_ours else HERE) / "Cargo.lock").read_text(encoding="utf-8"))["package"]
    found = json.loads((HERE / "js/package.json").read_text(encoding="utf-8"))["dependencies"]
    for package in locked:
        found[package["name"]] = package["version"]
    if "node" in server.get("packages", []):
        found["node"] = output("node", "--version").lstrip("v")
    return ", ".join(f"{name} {found.get(name, '?')}" for name in server.get("packages", []))


if __name__ == "__main__":
    main()
