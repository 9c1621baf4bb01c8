"""The client against a real HTTP server that answers anything."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.gateway.control.ray_serve import client as client_module
from services.gateway.control.ray_serve.applications import ApplicationConfig, Instance
from services.gateway.control.ray_serve.client import RayServe
from steersman.errors import UnavailableError
from tests.http_server import HttpAnswer, HttpServer, http_server

EMPTY = b'{"applications": {}, "target_capacity": null}'


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server(lambda _: HttpAnswer(EMPTY)) as found:
        yield found


def ray_serve(url: str, token: Path = Path("/nowhere")) -> RayServe:
    return RayServe(url, token, "127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (HttpAnswer(b"<html>Sign in</html>", content_type="text/html"), "expected JSON .*text/html.*Sign in"),
        (HttpAnswer(b""), "expected JSON"),
        (HttpAnswer(b"\xff\xfe\x00"), "expected JSON"),
        (HttpAnswer(b"[" * 100_000), "expected JSON"),
        (HttpAnswer(b"null"), r"expected an object at \$"),
        (HttpAnswer(b"[]"), r"expected an object at \$"),
        (HttpAnswer(b"{}"), "expected a field 'applications'"),
        (HttpAnswer(b'{"applications": null}'), "expected an object"),
        (HttpAnswer(b'{"applications": {"x": {}}}'), "expected a field 'status'"),
        (HttpAnswer(b"down", status=500), "answered with status 500: down"),
        (HttpAnswer(b"who?", status=401), "answered with status 401: who"),
        (HttpAnswer(status=302, headers={"location": "/login"}), "answered with status 302"),
        (HttpAnswer(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), "cannot reach"),
        (HttpAnswer(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), "cannot reach"),
        (HttpAnswer(raw=b""), "cannot reach"),
    ],
)
async def test_whatever_is_answered_is_an_error_in_words(server: HttpServer, answer: HttpAnswer, words: str) -> None:
    server.answer = lambda _: answer
    ray = ray_serve(server.url)
    try:
        with pytest.raises(UnavailableError, match=words) as refused:
            await ray.instance()
        assert server.url in str(refused.value)
        assert len(str(refused.value)) < 600
        server.answer = lambda _: HttpAnswer(EMPTY)
        assert await ray.instance() == Instance({})
    finally:
        await ray.close()


async def test_who_accepts_and_stays_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_CALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ray = ray_serve(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(UnavailableError, match=r"has not answered within 0\.2 s"):
            await ray.instance()
        await ray.close()


async def test_nobody_there_is_an_error_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    ray = ray_serve(url)
    with pytest.raises(UnavailableError, match=f"cannot reach Ray's dashboard at {url}"):
        await ray.instance()
    await ray.close()


def make_folder(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_folder, "expected to read Ray's token: .*Is a directory"),
        (make_pipe, "expected to read Ray's token: .*regular file"),
        (lambda path: path.write_bytes(b"x" * 100_000), "expected to read Ray's token: expected at most"),
        (lambda path: path.write_bytes(b"secret\xff"), "expected one word of printable ASCII"),
        (lambda path: path.write_bytes(b"secret\r\nX-Evil: 1"), "expected one word of printable ASCII"),
    ],
)
async def test_a_token_file_that_is_none_is_an_error_in_words(
    server: HttpServer, tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    make(tmp_path / "token")
    ray = ray_serve(server.url, tmp_path / "token")
    with pytest.raises(UnavailableError, match=words) as refused:
        await ray.instance()
    assert "secret" not in str(refused.value)
    assert server.requests == []
    await ray.close()


async def test_a_token_is_sent_and_may_change_or_be_missing(server: HttpServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    ray = ray_serve(server.url, token)
    await ray.instance()
    token.write_text("first\n")
    await ray.instance()
    token.unlink()
    make_loop(token)
    await ray.instance()
    token.unlink()
    (tmp_path / "secret").write_text("second")
    token.symlink_to(tmp_path / "secret")  # as Kubernetes mounts them
    await ray.instance()
    sent = [request.headers.get("authorization") for request in server.requests]
    assert sent == [None, "Bearer first", None, "Bearer second"]
    await ray.close()


async def test_no_proxy_of_the_environment_is_used_on_loopback(
    server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        ray = ray_serve(server.url)
        assert await ray.instance() == Instance({})
        await ray.close()


async def test_the_whole_set_is_told_and_the_capacity_that_somebody_has_set(server: HttpServer) -> None:
    ray = ray_serve(server.url)
    await ray.replace([ApplicationConfig("shop", False, {"name": "shop", "import_path": "shop:app"})], 50.0)
    await ray.replace([], None)
    first, second = (json.loads(request.body) for request in server.requests)
    assert first["applications"] == [{"name": "shop", "import_path": "shop:app"}]
    assert first["target_capacity"] == 50.0
    assert second["applications"] == []
    assert "target_capacity" not in second
    await ray.close()
