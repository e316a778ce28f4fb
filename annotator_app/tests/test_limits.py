"""What a server of ours bears from its clients: slow heads, many connections."""

import socket
import threading
import time

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from annotator_app import limits

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def hello(_):
    return PlainTextResponse("hello")


async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


APP = Starlette(routes=[Route("/", hello), WebSocketRoute("/echo", echo)])


@pytest.fixture
def port(monkeypatch):
    """A server of ours, with a short time for heads and few connections."""
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1.0)
    monkeypatch.setattr(limits, "CONNECTIONS", 4)
    servers = []
    started = uvicorn.Server.run
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda self, *given: (servers.append(self), started(self, *given))
    )
    with socket.create_server(("127.0.0.1", 0)) as probe:
        number = probe.getsockname()[1]
    thread = threading.Thread(target=limits.serve, args=(APP, "127.0.0.1", number), daemon=True)
    thread.start()
    while not (servers and servers[0].started):
        time.sleep(0.02)
    yield number
    servers[0].should_exit = True
    thread.join(20)


def connect(port):
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(10)
    return client


def answer(client):
    return client.recv(4096).split(b"\r\n")[0]


def seconds_until_closed(client):
    began = time.monotonic()
    while client.recv(4096):
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("first", [b"", REQUEST[:-6]])
def test_a_head_that_does_not_come_ends_the_connection(port, first):
    with connect(port) as client:
        client.sendall(first)
        assert seconds_until_closed(client) < 5


def test_a_second_head_that_drips_ends_it_too(port):
    with connect(port) as client:
        client.sendall(REQUEST)
        assert answer(client) == b"HTTP/1.1 200 OK"
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + 10:
                client.sendall(b"G" if time.monotonic() == began else b"E")
                time.sleep(0.2)
        assert time.monotonic() - began < 5


def test_a_websocket_may_be_silent(port):
    from websockets.sync.client import connect as open_websocket

    with open_websocket(f"ws://127.0.0.1:{port}/echo") as client:
        time.sleep(1.5)
        client.send("still here")
        assert client.recv(5) == "still here"


def test_more_connections_than_allowed_are_told_so(port):
    idle = [connect(port) for _ in range(6)]
    try:
        with connect(port) as client:
            client.sendall(REQUEST)
            assert answer(client).startswith(b"HTTP/1.1 503")
    finally:
        for client in idle:
            client.close()
    time.sleep(0.2)
    with connect(port) as client:
        client.sendall(REQUEST)
        assert answer(client) == b"HTTP/1.1 200 OK"
