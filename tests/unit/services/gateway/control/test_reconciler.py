"""The reconciler on a real database, and a server that answers like Ray's dashboard in odd moments."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.gateway.control.desired import Change
from services.gateway.control.ray_serve.client import RayServe
from services.gateway.control.reconciler import Reconciler
from services.gateway.control.scaling import Scale
from services.gateway.control.shared_state import SharedState
from services.gateway.control.store import Store
from services.gateway.dispatch.routes import Route
from steersman.errors import UnavailableError
from steersman.settings import Settings
from tests.databases import database_url
from tests.http_server import HttpAnswer, HttpRequest, http_server

SHOP = {"name": "shop", "route_prefix": "/shop", "import_path": "shop:app", "runtime_env": {"env_vars": {"A": "b"}}}


def application(
    config: dict[str, Any] | None, status: str = "RUNNING", source: str = "declarative", route: str | None = None
) -> dict[str, Any]:
    return {
        "status": status,
        "source": source,
        "route_prefix": route,
        "message": "",
        "deployed_app_config": config,
        "deployments": {},
    }


@dataclass
class Dashboard:
    """Answers as it is told, at last for ever; and takes note of what is submitted.

    Attributes:
        story: What it answers.
        submitted: Each whole set that came.
        follows: Whether it does what is submitted, from then on.
    """

    story: list[dict[str, Any]] = field(default_factory=lambda: [{"applications": {}}])
    submitted: list[dict[str, Any]] = field(default_factory=list)
    follows: bool = True

    def __call__(self, request: HttpRequest) -> HttpAnswer:
        if request.method == "PUT":
            self.submitted.append(json.loads(request.body))
            if self.follows:
                found = {config["name"]: application(config) for config in self.submitted[-1]["applications"]}
                self.story = [{"applications": found}]
            return HttpAnswer()
        answer = self.story.pop(0) if len(self.story) > 1 else self.story[0]
        return HttpAnswer(json.dumps(answer).encode())

    def names(self) -> list[str]:
        """Gives the applications of the last set."""
        return [config["name"] for config in self.submitted[-1]["applications"]]


@dataclass
class Rig:
    """A reconciler, and what it works on."""

    reconciler: Reconciler
    dashboard: Dashboard
    shared: SharedState

    async def step(self) -> None:
        """Has it look at once."""
        self.reconciler.changed.set()
        await self.reconciler.step()

    async def deploy(self, policy: str) -> None:
        """Wants a policy."""

        def change(store: Store) -> object:
            return store.deploy(
                Change("a test", policy), Route({1: 1.0}), lambda _: Scale(1, 1, 0.5, 0.0), {1: f"/bundles/{policy}"}
            )

        await self.shared.call(change)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    dashboard = Dashboard()
    with http_server(dashboard) as server:
        ray_serve = RayServe(server.url, Path("/nowhere"), "127.0.0.1", 8000)
        shared = SharedState(await asyncio.to_thread(database_url, tmp_path), lambda _: None)
        reconciler = Reconciler(Settings(), ["127.0.0.1:1"], ray_serve, shared, lambda: None)
        await shared.step()
        yield Rig(reconciler, dashboard, shared)
        shared.close()
        await ray_serve.close()


async def test_what_is_wanted_is_submitted_beside_what_others_have_declared(rig: Rig) -> None:
    rig.dashboard.story = [
        {
            "applications": {
                "shop": application(SHOP),
                "leaving": application(SHOP | {"name": "leaving"}, status="DELETING"),
                "program": application(None, source="imperative", route="/program"),
                # A program has replaced what was declared, of which Ray Serve still has the config.
                "replaced": application(SHOP | {"name": "replaced"}, source="imperative", route="/replaced"),
            },
            "target_capacity": 40.0,
        }
    ]
    await rig.deploy("cartpole")
    await rig.step()
    (submitted,) = rig.dashboard.submitted
    assert rig.dashboard.names() == ["shop", "cartpole"]
    assert submitted["applications"][0] == SHOP
    assert submitted["target_capacity"] == 40.0
    assert rig.reconciler.is_as_wanted("cartpole")
    await rig.step()
    assert len(rig.dashboard.submitted) == 1, "it is as wanted"


async def test_what_others_declare_at_the_last_moment_is_submitted_with_it(rig: Rig) -> None:
    rig.dashboard.story = [{"applications": {}}, {"applications": {"shop": application(SHOP)}}]
    await rig.deploy("cartpole")
    await rig.step()
    assert rig.dashboard.names() == ["shop", "cartpole"]


async def test_what_others_take_at_the_last_moment_is_left_to_them(rig: Rig) -> None:
    taken = application(SHOP | {"name": "cartpole"})
    rig.dashboard.story = [{"applications": {}}, {"applications": {"cartpole": taken}}]
    await rig.deploy("cartpole")
    await rig.step()
    assert rig.dashboard.submitted == []
    assert list(rig.reconciler.conflicts()) == ["cartpole"]
    await rig.deploy("pong")
    await rig.step()
    assert rig.dashboard.names() == ["cartpole", "pong"]
    assert rig.dashboard.submitted[-1]["applications"][0]["import_path"] == "shop:app"


async def test_an_application_whose_config_is_not_known_is_not_deleted(rig: Rig) -> None:
    rig.dashboard.story = [{"applications": {"shop": application(None)}}]
    await rig.deploy("cartpole")
    with pytest.raises(UnavailableError, match="expected the config of application 'shop'"):
        await rig.step()
    assert rig.dashboard.submitted == []
    # Nor is one taken for somebody else's just because nobody knows.
    rig.dashboard.story = [{"applications": {"cartpole": application(None)}}]
    with pytest.raises(UnavailableError, match="expected the config of application 'cartpole'"):
        await rig.step()
    assert rig.reconciler.conflicts() == {}
    rig.dashboard.story = [{"applications": {"shop": application(SHOP)}}]
    await rig.step()
    assert rig.dashboard.names() == ["shop", "cartpole"]


async def test_that_everything_is_gone_is_not_believed_at_once(rig: Rig) -> None:
    rig.dashboard.story = [{"applications": {"shop": application(SHOP)}}]
    await rig.deploy("cartpole")
    await rig.step()
    rig.dashboard.story = [{"applications": {}}]
    for _ in range(3):
        await rig.step()
        assert not rig.reconciler.has_looked
    assert len(rig.dashboard.submitted) == 1
    # Nor in the moment before it submits.
    rig.dashboard.story = [{"applications": {"shop": application(SHOP)}}, {"applications": {}}]
    await rig.step()
    assert len(rig.dashboard.submitted) == 1
    rig.dashboard.story = [{"applications": {}}]
    for _ in range(4):
        await rig.step()
    assert rig.dashboard.names() == ["cartpole"]


async def test_only_who_holds_the_lease_submits(rig: Rig) -> None:
    await rig.deploy("cartpole")
    await rig.shared.call(lambda store: store.leases.acquire("reconciler", "somebody else", 60.0))
    await rig.step()
    assert rig.dashboard.submitted == []
    await rig.shared.call(lambda store: store.leases.release("reconciler", "somebody else"))
    await rig.step()
    assert rig.dashboard.names() == ["cartpole"]
    assert await rig.shared.call(lambda store: store.leases.acquire("reconciler", "somebody else", 60.0))


async def test_a_ray_serve_that_does_something_else_is_asked_less_and_less_often(rig: Rig) -> None:
    rig.dashboard.follows = False
    await rig.deploy("cartpole")
    pauses = []
    for _ in range(4):
        await rig.step()
        pauses.append(rig.reconciler._due - time.monotonic())
    assert len(rig.dashboard.submitted) == 4
    assert pauses[0] < 0.6 < 1.9 < pauses[3]
