"""Chromium as a peer; started by conformance/peers.

    python chromium.py client URL MAX_MESSAGE     lets the page chromium.html check the echo server at URL
    python chromium.py deflate URL MAX_MESSAGE    the same, of a server that compresses

The page comes from an HTTP server here, to which it also posts the line that each check prints.
"""

import http.server
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.parse

PAGE = pathlib.Path(__file__).with_name("chromium.html")

PAGE_SECONDS = 150

FLAGS = [
    "--headless",
    "--no-sandbox",  # Chromium's sandbox does not start as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if urllib.parse.urlsplit(self.path).path == "/":
            self.answer(200, PAGE.read_bytes())
        else:
            self.answer(404)

    def do_POST(self):
        line = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if line == "done":
            self.server.page_done.set()
        else:
            print(line, flush=True)
        self.answer(204)

    def answer(self, status, page=b""):
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


def main(role, url, max_message):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.page_done = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    query = urllib.parse.urlencode({"role": role, "url": url, "max": max_message})
    page = f"http://127.0.0.1:{server.server_port}/?{query}"

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ["chromium", *FLAGS, f"--user-data-dir={profile}", page]
        # What it prints is about things that a machine without a desktop lacks, such as D-Bus.
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        chromium = subprocess.Popen(command, env={**os.environ, "TMPDIR": profile}, **quiet)
        try:
            done = server.page_done.wait(PAGE_SECONDS)
        finally:
            chromium.terminate()
            chromium.wait()
    return None if done else f"the page was not done after {PAGE_SECONDS} s"


# By default SIGTERM would skip the `finally` block that ends Chromium.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
_, role, url, max_message = sys.argv
sys.exit(main(role, url, max_message))
