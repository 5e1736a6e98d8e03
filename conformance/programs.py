"""What `autobahn`, `browser` and `peers` share: building, starting and ending programs, installing what they need."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def build(bin_dir, *which):
    """The directory of the example programs: `bin_dir` where given, else that of a release build made here."""
    if bin_dir:
        return pathlib.Path(bin_dir).resolve()
    cargo = ["cargo", "build", "--release", "-p", "ws-examples", *(which or ["--bins"])]
    subprocess.run(cargo, cwd=ROOT, stdin=subprocess.DEVNULL, check=True)
    return TARGET / "release"


def install_debian(packages):
    if packages:
        install(["apt-get", "update"])
        install(["apt-get", "install", "--yes", "--no-install-recommends", *packages])


def install_npm(directory):
    """Installs what the package.json of a directory names."""
    quiet = ["--no-package-lock", "--no-audit", "--no-fund"]
    install(["npm", "install", "--prefix", directory, "--ignore-scripts", *quiet])


def install(command):
    """Runs an installer, which is heard only when it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run = subprocess.run(
        list(map(str, command)), env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
    )
    if run.returncode != 0:
        raise RuntimeError(f"{command[0]} exited with {run.returncode}:\n{run.stdout}")


@contextlib.contextmanager
def running(command, stdin=subprocess.DEVNULL, **options):
    """Runs a program for as long as the block does."""
    process = subprocess.Popen(list(map(str, command)), stdin=stdin, encoding="utf-8", **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def server(command):
    """Runs a server, and gives its process and the URL of the line `listening on URL` that it starts with."""
    with running(command, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline()
        match = re.fullmatch(r"listening on (ws://\S+)\n", line)
        if not match:
            raise RuntimeError(f"{command[0]} printed {line!r} where its address was expected")
        yield process, match[1]


@contextlib.contextmanager
def time_limit(seconds, what):
    """Raises TimeoutError inside the block once it has lasted so long. Blocks do not nest: there is one alarm."""

    def expired(*_):
        raise TimeoutError(f"{what} was not done after {seconds} s")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def run(main):
    """Exits with what `main` returns, or with one line about what stopped it."""
    # By default SIGTERM would skip the `finally` blocks that end the processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        sys.exit(main())
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {error}")
