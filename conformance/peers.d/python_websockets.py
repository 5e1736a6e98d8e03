"""Python's websockets as a peer; started by conformance/peers. (A file websockets.py would import itself.)

    python python_websockets.py client URL MAX_MESSAGE
        checks the echo server at URL, which takes the subprotocol `chat`
    python python_websockets.py deflate URL MAX_MESSAGE
        checks the echo server at URL, which compresses
    python python_websockets.py server
        echoes; prints its address, then `closed CODE` for each connection
    python python_websockets.py deflate-server
        the same, compressing; prints `closed CODE EXTENSION`
"""

import asyncio
import json
import os
import sys
import urllib.parse

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

CHECK_SECONDS = 10


class Checks:
    """Each public method is a check, printed under its name with `-` for `_`."""

    def __init__(self, url, max_message):
        self._url = url
        self._max_message = max_message

    async def text(self):
        await self._echo("hello")

    async def binary(self):
        await self._echo(bytes([0, 1, 0x7F, 0x80, 0xFF]))

    async def empty_text(self):
        await self._echo("")

    async def empty_binary(self):
        await self._echo(b"")

    async def non_ascii_text(self):
        await self._echo("grüße, 世界 🌍")

    async def text_of_70000_bytes(self):
        await self._echo("x" * 70_000)

    async def largest_binary(self):
        await self._echo(patterned(self._max_message))

    async def order_of_100(self):
        sent = [f"message {number}" for number in range(100)]
        async with self._connect() as socket:
            for message in sent:
                await socket.send(message)
            require([await socket.recv() for _ in sent], sent)

    async def fragmented_text(self):
        async with self._connect() as socket:
            await socket.send(["frag", "men", "ted"])
            require(await socket.recv(), "fragmented")

    async def ping(self):
        async with self._connect() as socket:
            await (await socket.ping("payload"))  # waits for a pong with the same payload

    async def subprotocol(self):
        async with self._connect(subprotocols=["other", "chat"]) as socket:
            require(socket.subprotocol, "chat")

    async def close(self):
        async with self._connect() as socket:
            await socket.close(4000, "bye")
            require(socket.protocol.close_rcvd and socket.protocol.close_rcvd.code, 4000)

    async def wrong_path(self):
        try:
            await connect(urllib.parse.urljoin(self._url, "/wrong"), proxy=None)
        except InvalidStatus as refusal:
            require(refusal.response.status_code, 404)
        else:
            raise AssertionError("the connection was accepted")

    async def too_large(self):
        async with self._connect() as socket:
            try:
                await socket.send(patterned(self._max_message + 1))
                await socket.recv()
            except ConnectionClosed as closed:
                require(closed.rcvd and closed.rcvd.code, 1009)
            else:
                raise AssertionError("the message came back")

    async def two_connections(self):
        async with self._connect() as one, self._connect() as other:
            await one.send("one")
            await other.send("other")
            require([await other.recv(), await one.recv()], ["other", "one"])

    def _connect(self, **options):
        return connect(self._url, max_size=None, proxy=None, **options)

    async def _echo(self, message):
        async with self._connect() as socket:
            await socket.send(message)
            require(await socket.recv(), message)


class DeflateChecks(Checks):
    """As `Checks`, of a server that compresses."""

    async def text_of_2_kib(self):
        await self._echo(rows(2048))

    async def json_of_100_kib(self):
        await self._echo(rows(100 * 1024))

    async def random_binary_of_1_mib(self):
        await self._echo(os.urandom(1024 * 1024))

    async def one_after_the_other(self):
        noise = os.urandom(5000)
        await self._echo("hello", "", rows(2048), noise, b"", rows(100 * 1024), "hello", noise)

    async def fragmented_text(self):
        async with self._connect() as socket:
            await socket.send([rows(5000), "", "end"])
            require(await socket.recv(), rows(5000) + "end")

    async def _echo(self, *messages):
        async with self._connect() as socket:
            require([extension.name for extension in socket.protocol.extensions], ["permessage-deflate"])
            for message in messages:
                await socket.send(message)
                require(await socket.recv(), message)


async def run_client(checks):
    for name in [name for name in vars(type(checks)) if not name.startswith("_")]:
        shown = name.replace("_", "-")
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await getattr(checks, name)()
            print(f"ok {shown}", flush=True)
        except Exception as error:
            print(f"FAIL {shown}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)


async def run_server(compression):
    async def echo(socket):
        async for message in socket:
            await socket.send(message)
        extensions = [extension.name for extension in socket.protocol.extensions]
        print("closed", socket.close_code, *extensions, flush=True)

    async with serve(echo, "127.0.0.1", 0, compression=compression) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on ws://{host}:{port}/", flush=True)
        await server.serve_forever()


def require(actual, expected):
    assert actual == expected, f"{actual!r:.80} is not {expected!r:.80}"


def rows(length):
    return json.dumps([{"id": number, "name": f"row {number % 97}"} for number in range(length // 16)])[:length]


def patterned(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


match sys.argv[1:]:
    case ["client", url, max_message]:
        asyncio.run(run_client(Checks(url, int(max_message))))
    case ["deflate", url, max_message]:
        asyncio.run(run_client(DeflateChecks(url, int(max_message))))
    case ["deflate-server"]:
        asyncio.run(run_server("deflate"))
    case _:
        asyncio.run(run_server(None))
