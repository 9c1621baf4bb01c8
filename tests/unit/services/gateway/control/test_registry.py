"""The registry's client and the mirror of aliases, against a server that answers like MLflow, or anything else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from services.common import supervision
from services.common.supervision import Supervisor
from services.gateway.control.alias_mirror import AliasMirror
from services.gateway.control.registry import RegisteredVersion, Registry
from steersman.errors import InvalidArgumentError, NotFoundError, UnavailableError
from tests.http_server import HttpAnswer, HttpRequest, HttpServer, http_server

FOUND = HttpAnswer(json.dumps({"model_version": {"version": "7", "source": "s3://bucket/7"}}).encode())
NEWEST = HttpAnswer(json.dumps({"model_versions": [{"version": "8", "source": "s3://bucket/8"}]}).encode())


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server() as found:
        yield found


@pytest.fixture
async def registry(server: HttpServer) -> AsyncIterator[Registry]:
    made = Registry(server.url)
    yield made
    await made.close()


async def test_versions_are_found_or_not(server: HttpServer, registry: Registry) -> None:
    server.answer = lambda _: FOUND
    assert await registry.find("cartpole", 7) == RegisteredVersion(7, "s3://bucket/7")
    server.answer = lambda _: NEWEST
    assert await registry.find("cartpole", 0) == RegisteredVersion(8, "s3://bucket/8")
    server.answer = lambda _: HttpAnswer(b"{}")
    with pytest.raises(NotFoundError, match="expected a registered version of policy 'cartpole'"):
        await registry.find("cartpole", 0)
    server.answer = lambda _: HttpAnswer(b'{"error_code": "RESOURCE_DOES_NOT_EXIST"}', status=404)
    with pytest.raises(NotFoundError, match="expected registered version 9"):
        await registry.find("cartpole", 9)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (HttpAnswer(b"<html>Sign in</html>", content_type="text/html"), "expected JSON from MLflow at"),
        (HttpAnswer(b"[]"), "expected an object"),
        (HttpAnswer(b'{"model_version": null}'), "expected an object"),
        (HttpAnswer(b'{"model_version": {"version": "7"}}'), "expected a field 'source'"),
        (HttpAnswer(b'{"model_version": {"version": "x", "source": "s"}}'), "expected an integer"),
        (HttpAnswer(b'{"model_version": {"version": true, "source": "s"}}'), "expected an integer"),
        (HttpAnswer(b'{"model_version": {"version": "7", "source": 7}}'), "expected a text"),
        (HttpAnswer(b"down", status=503), "answered with status 503"),
        (HttpAnswer(raw=b""), "cannot reach MLflow at"),
    ],
)
async def test_whatever_else_is_answered_is_an_error_in_words(
    server: HttpServer, registry: Registry, answer: HttpAnswer, words: str
) -> None:
    server.answer = lambda _: answer
    with pytest.raises(UnavailableError, match=words):
        await registry.find("cartpole", 7)


async def test_a_refusal_is_not_taken_for_an_outage(server: HttpServer, registry: Registry) -> None:
    server.answer = lambda _: HttpAnswer(b"alias names may not look like versions", status=400)
    with pytest.raises(InvalidArgumentError, match="may not look like versions"):
        await registry.set_alias("cartpole", "v7", 7)


class Aliases:
    """Keeps aliases as MLflow does, while it is not told to answer something else."""

    def __init__(self) -> None:
        self.set: dict[str, str] = {}
        self.instead: HttpAnswer | None = None

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        if self.instead is not None:
            return self.instead
        fields = json.loads(request.body)
        if request.method == "DELETE":
            self.set.pop(fields["alias"], None)
        elif fields["alias"] == "refused":
            return HttpAnswer(status=400)
        elif fields["alias"] == "broken":
            return HttpAnswer(status=500)
        else:
            self.set[fields["alias"]] = fields["version"]
        return HttpAnswer(b"{}")


@contextlib.asynccontextmanager
async def mirroring(registry: Registry, supervisor: Supervisor) -> AsyncIterator[AliasMirror]:
    mirror = AliasMirror(registry)
    task = asyncio.create_task(supervisor.repeat("aliases", mirror.step))
    try:
        yield mirror
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "instead", [HttpAnswer(b"down", status=503), HttpAnswer(raw=b""), HttpAnswer(b"<html>", status=502)]
)
async def test_aliases_arrive_once_mlflow_is_there_the_last_of_each(
    server: HttpServer, registry: Registry, monkeypatch: pytest.MonkeyPatch, instead: HttpAnswer
) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE_SECONDS", 0.01)
    aliases, supervisor = Aliases(), Supervisor()
    aliases.instead, server.answer = instead, aliases
    async with mirroring(registry, supervisor) as mirror:
        mirror.set("cartpole", "champion", 1)
        await until(lambda: len(server.requests) > 2)
        mirror.set("cartpole", "candidate", 5)
        mirror.set("cartpole", "champion", 2)
        assert dict(supervisor.problems) == {}, "everything works without"
        aliases.instead = None
        await until(lambda: aliases.set == {"champion": "2", "candidate": "5"})
        mirror.set("cartpole", "candidate", 0)
        await until(lambda: aliases.set == {"champion": "2"})


async def test_an_alias_that_mlflow_refuses_is_given_up_and_none_holds_up_the_others(
    server: HttpServer, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "_FIRST_PAUSE_SECONDS", 0.01)
    aliases = Aliases()
    server.answer = aliases
    async with mirroring(registry, Supervisor()) as mirror:
        mirror.set("cartpole", "refused", 1)
        mirror.set("cartpole", "broken", 1)
        mirror.set("cartpole", "champion", 1)
        await until(lambda: aliases.set == {"champion": "1"})
        await until(lambda: len(server.requests) > 6)
    assert sum(b'"refused"' in request.body for request in server.requests) == 1
