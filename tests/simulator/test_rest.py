from __future__ import annotations

import asyncio

import pytest

from simulator.rest import HttpRequest, HttpResponse, Routes, html, json, plain, protocol_factory


def test_a_route_gets_its_segments_and_is_counted():
    routes = Routes()
    routes.add("GET", "/book/{market}", lambda request, market: plain(f"{market} {request.param('depth')}"))
    assert routes.answer(HttpRequest("GET", "/book/BTC%2FUSD", {"depth": ["5"]})).body == b"BTC/USD 5"
    assert routes.answer(HttpRequest("POST", "/book/BTC")) is None
    assert routes.answer(HttpRequest("GET", "/book")) is None
    assert routes.counts == {"/book/{market}": 2, "(unknown)": 1}


def test_parameters():
    request = HttpRequest("GET", "/", {"n": ["5", "6"], "x": ["y"]})
    assert request.param("n") == "5"
    assert request.param("m") is None
    assert request.number("n", 1) == 5
    assert request.number("m", 1) == 1
    with pytest.raises(ValueError, match="invalid literal"):
        request.number("x", 1)


def test_responses():
    assert json({"a": None}, 201) == HttpResponse(201, b'{"a":null}', {"Content-Type": "application/json"})
    assert html(502).body.startswith(b"<html><head><title>502 Bad Gateway")
    assert plain("x").with_headers(Retry_After="1").headers["Retry-After"] == "1"


async def _talk(handler, *pieces):
    """Return the server's responses to bytes, until it closes or has answered each piece."""
    server = await asyncio.get_running_loop().create_server(protocol_factory(handler), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = int(next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")).split(b":")[1])
        answers.append((head, await asyncio.wait_for(reader.readexactly(length), 10)))
    writer.write_eof()
    rest = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return answers, rest


async def _echo(request):
    return plain(f"{request.method} {request.path} {request.headers.get('x')} {request.body.decode()}")


@pytest.mark.integration
def test_one_connection_serves_many_requests():
    get = b"GET /a?b=c HTTP/1.1\r\nX: 1\r\n\r\n"
    post = b"POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
    answers, rest = asyncio.run(_talk(_echo, get, post, get))
    assert [body for _, body in answers] == [b"GET /a 1 ", b"POST /p None body", b"GET /a 1 "]
    assert all(b"200 OK" in head and b"keep-alive" in head for head, _ in answers)
    assert rest == b""


@pytest.mark.integration
def test_a_client_can_request_to_close_the_connection():
    (answer,), _ = asyncio.run(_talk(_echo, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"))
    assert b"Connection: close" in answer[0]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400"),
    ],
)
def test_bad_requests(request_, status):
    (answer,), _ = asyncio.run(_talk(_echo, request_))
    assert status in answer[0]


@pytest.mark.integration
def test_a_handler_that_fails_is_status_500():
    async def fail(request):
        raise RuntimeError(request.path)

    (answer,), _ = asyncio.run(_talk(fail, b"GET / HTTP/1.1\r\n\r\n"))
    assert b"500 Internal Server Error" in answer[0]


@pytest.mark.integration
def test_a_body_can_be_slow():
    async def slow(request):
        del request
        return HttpResponse(200, b"x" * 100, trickle_s=0.2)

    async def timed():
        begin = asyncio.get_running_loop().time()
        answers, _ = await _talk(slow, b"GET / HTTP/1.1\r\n\r\n")
        return answers[0][1], asyncio.get_running_loop().time() - begin

    body, seconds = asyncio.run(timed())
    assert body == b"x" * 100
    assert seconds > 0.15


@pytest.mark.integration
def test_headers_can_be_slow():
    async def slow(request):
        del request
        return HttpResponse(200, b"body", trickle_s=0.2, trickles_headers=True)

    async def timed():
        begin = asyncio.get_running_loop().time()
        answers, _ = await _talk(slow, b"GET / HTTP/1.1\r\n\r\n")
        return answers[0][1], asyncio.get_running_loop().time() - begin

    body, seconds = asyncio.run(timed())
    assert body == b"body"
    assert seconds > 0.15


@pytest.mark.integration
def test_a_response_can_end_after_its_headers():
    async def cut(request):
        del request
        return HttpResponse(200, b"body", is_cut=True)

    async def ask():
        server = await asyncio.get_running_loop().create_server(protocol_factory(cut), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        received = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        server.close()
        await server.wait_closed()
        return received

    received = asyncio.run(ask())
    assert b"Content-Length: 4\r\n" in received
    assert received.endswith(b"\r\n\r\n")
