"""Specs of versions that nobody has loaded, from local folders and from an MLflow that may answer anything."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.gateway.control import bundle_specs
from services.gateway.control.bundle_specs import BundleSpecs
from services.gateway.control.registry import Registry
from steersman.v1 import common_pb2
from tests.bundles import linear_spec, write_linear_bundle
from tests.http_server import HttpAnswer, HttpRequest, HttpServer, http_server

REMOTE = "s3://bucket/cartpole/2"


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server(lambda _: HttpAnswer(status=404)) as found:
        yield found


@pytest.fixture
async def specs(server: HttpServer) -> AsyncIterator[BundleSpecs]:
    registry = Registry(server.url)
    yield BundleSpecs(registry)
    await registry.close()


def sizes(specs: dict[int, common_pb2.PolicySpec]) -> dict[int, int]:
    return {version: spec.observation_space.box.shape[0] for version, spec in specs.items()}


async def test_a_folder_is_read_by_path_and_by_uri(specs: BundleSpecs, server: HttpServer, tmp_path: Path) -> None:
    write_linear_bundle(tmp_path / "a b", 4)
    write_linear_bundle(tmp_path / "six", 6)
    uris = {1: str(tmp_path / "a b"), 2: f"file://{tmp_path}/six", 3: f"file://{tmp_path}/a%20b"}
    assert sizes(await specs.read("cartpole", uris)) == {1: 4, 2: 6, 3: 4}
    assert server.requests == []


def damage(change: Callable[[Path], object]) -> Callable[[Path], object]:
    def damaged(folder: Path) -> None:
        (folder / "manifest.json").unlink()
        change(folder / "manifest.json")

    return damaged


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        damage(lambda path: path.mkdir()),
        damage(os.mkfifo),
        damage(lambda path: path.symlink_to("/etc/hostname")),
        damage(lambda path: path.write_text("{")),
        damage(lambda path: path.write_text("[" * 100_000)),
        damage(lambda path: path.write_text("null")),
        damage(lambda path: path.write_text("{}")),
        damage(lambda path: path.write_text('{"spec": {"observation_space": 7}}')),
        damage(lambda path: path.write_text(" " * 2_000_000)),
    ],
)
async def test_a_folder_that_is_no_bundle_is_not_known(
    specs: BundleSpecs, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    write_linear_bundle(tmp_path / "sound", 4)
    write_linear_bundle(tmp_path / "damaged", 4)
    change(tmp_path / "damaged")
    found = await specs.read("cartpole", {1: str(tmp_path / "sound"), 2: str(tmp_path / "damaged")})
    assert list(found) == [1]


def mlflow(manifest: bytes) -> Callable[[HttpRequest], HttpAnswer]:
    """Answers as MLflow does that has version 2 of the policy, with its bundle elsewhere."""

    def answer(request: HttpRequest) -> HttpAnswer:
        if request.path.startswith("/api/2.0/mlflow/model-versions/get?"):
            return HttpAnswer(json.dumps({"model_version": {"version": "2", "source": REMOTE}}).encode())
        if request.path == "/model-versions/get-artifact?name=cartpole&version=2&path=manifest.json":
            return HttpAnswer(manifest)
        if request.path == "/api/2.0/mlflow-artifacts/artifacts/0/run%201/artifacts/bundle/manifest.json":
            return HttpAnswer(manifest)
        return HttpAnswer(status=404)

    return answer


async def test_what_lies_elsewhere_is_asked_of_mlflow(specs: BundleSpecs, server: HttpServer, tmp_path: Path) -> None:
    manifest = (write_linear_bundle(tmp_path, 6).folder / "manifest.json").read_bytes()
    server.answer = mlflow(manifest)
    assert sizes(await specs.read("cartpole", {2: REMOTE})) == {2: 6}
    assert sizes(await specs.read("cartpole", {2: "mlflow-artifacts:/0/run 1/artifacts/bundle"})) == {2: 6}
    # A bundle that is not the registered one is not to be taken for it.
    assert await specs.read("cartpole", {2: "s3://bucket/another"}) == {}


@pytest.mark.parametrize(
    "answer",
    [
        HttpAnswer(b"<html>Sign in</html>", content_type="text/html"),
        HttpAnswer(b"down", status=500),
        HttpAnswer(b"no", status=403),
        HttpAnswer(raw=b""),
        HttpAnswer(b"{}"),
    ],
)
async def test_while_mlflow_answers_something_else_they_are_not_known(
    specs: BundleSpecs, server: HttpServer, answer: HttpAnswer
) -> None:
    server.answer = lambda _: answer
    assert await specs.read("cartpole", {2: REMOTE, 3: "mlflow-artifacts:/0/run/artifacts/bundle"}) == {}


async def test_an_mlflow_that_stays_silent_is_not_waited_for(
    specs: BundleSpecs, server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_specs, "_SECONDS", 0.2)
    released = threading.Event()

    def stall(_request: HttpRequest) -> HttpAnswer:
        released.wait(10)
        return HttpAnswer(b"{}")

    server.answer = stall
    try:
        write_linear_bundle(tmp_path, 4)
        assert list(await specs.read("cartpole", {1: str(tmp_path), 2: REMOTE})) == [1]
    finally:
        released.set()


def test_what_is_read_is_what_the_manifest_says(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path, 5, 3)
    read = bundle_specs.read_spec((tmp_path / "manifest.json").read_bytes(), "somewhere")
    assert read == bundle.spec
    assert read.observation_space == linear_spec(5, 3).observation_space
