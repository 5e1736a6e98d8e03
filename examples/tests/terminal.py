"""Sits at a terminal before the example `client`: terminal.py CLIENT URL. It fails if something is not as expected."""

import os
import pty
import select
import subprocess
import sys
import tempfile
import termios
import time

SECONDS = 30


class Session:
    """A client on a terminal of its own."""

    def __init__(self, *args, **environment):
        self.keyboard, self.terminal = pty.openpty()
        self.modes = termios.tcgetattr(self.terminal)
        environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "", **environment}
        streams = {"stdin": self.terminal, "stdout": self.terminal, "stderr": self.terminal}
        self.client = subprocess.Popen(args, env=environment, start_new_session=True, **streams)
        self.seen = b""

    def expect(self, text):
        """Waits for what is shown, and forgets what was before it."""
        deadline = time.monotonic() + SECONDS
        while text not in self.seen:
            if not select.select([self.keyboard], [], [], max(0, deadline - time.monotonic()))[0]:
                self.client.kill()
                raise AssertionError(f"{text!r} does not come after {self.seen!r}")
            self.seen += os.read(self.keyboard, 4096)
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, keys):
        os.write(self.keyboard, keys)

    def end(self):
        """Waits for the end, after which the terminal must be as it was."""
        status = self.client.wait(SECONDS)
        assert termios.tcgetattr(self.terminal) == self.modes, "the terminal is left in another mode"
        return status


def main(client, url):
    with tempfile.TemporaryDirectory() as folder:
        history = os.path.join(folder, "history")
        session = Session(client, "--history", history, url)
        session.expect(b"\x1b[2m[connected")
        session.expect(b"> ")
        session.type(b"hellp\x7fo\r")
        session.expect(b"\x1b[36mhello\x1b[0m")
        session.type(b"\x1b[A!\r")
        session.expect(b"\x1b[36mhello!\x1b[0m")
        session.type(b"\x04")
        session.expect(b"[closed 1000]")
        assert session.end() == 0

        session = Session(client, "--history", history, url + "hostile", NO_COLOR="1")
        session.expect(b"[3 bytes] 00 68 69  .hi")
        before = session.expect(rb"\u{1b}]0;title\u{7}")
        assert b"\x1b[36m" not in before and b"\x1b[33m" not in before, before
        session.type(b"\x1b[A\x1b[A\r")
        session.expect(b"\r\n")
        session.expect(b"hello\r\n")
        session.type(b"unfinished\x03")
        session.expect(b"[closed 1000]")
        assert session.end() == 0

    # Whatever has come is printed before the end.
    session = Session(client, url + "many")
    for number in range(1000):
        session.expect(b"message %d." % number)
    session.expect(b"[closed 1000]")
    assert session.end() == 0

    # An end before the first prompt, too.
    session = Session(client, "--count", "3", url + "three")
    session.expect(b"three")
    session.expect(b"[closed 1000]")
    assert session.end() == 0

    session = Session(client, url + "close/4000")
    session.expect(b"[closed 4000 bye]")
    assert session.end() == 4

    session = Session(client, url + "deaf")
    session.expect(b"> ")
    session.type(b"\x03")
    session.expect(b"\r\n")
    session.expect(b"\x1b[K")  # the next line is edited
    session.type(b"\x03")
    session.expect(b"interrupted")
    assert session.end() == 130


main(*sys.argv[1:])
