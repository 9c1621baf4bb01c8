"""Clients that live on while the versions of their policy change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.replica import Replica
from services.policy.runtime import PolicyRuntime
from steersman import ActOptions
from steersman.errors import FailedPreconditionError, InvalidArgumentError, SpacesChangedError
from steersman.v1 import common_pb2
from tests.bundles import write_gaussian_bundle, write_linear_bundle, write_recurrent_bundle
from tests.gateways import GatewayProcess, attached_replica, describe, gateway_process
from tests.integration.steersman.askers import KINDS, asker

pytestmark = pytest.mark.integration

ONE = np.ones(1, np.float32)


def box(top: float) -> common_pb2.Space:
    bounded = common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_FLOAT32, shape=[1], low=[-top], high=[top])
    return common_pb2.Space(box=bounded)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Takes and gives the same as `remembering`, without memory."""
    return write_linear_bundle(tmp_path_factory.mktemp("forgetful"), observation_size=1, actions=10)


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its action is the sum of the episode's observations."""
    return write_recurrent_bundle(tmp_path_factory.mktemp("remembering"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Takes two numbers."""
    return write_linear_bundle(tmp_path_factory.mktemp("wide"), observation_size=2, actions=10)


class Serving:
    """A policy whose versions are replaced as a whole."""

    def __init__(self, gateway: GatewayProcess, policy: str, replica: Replica) -> None:
        self._gateway, self._policy, self._replica = gateway, policy, replica

    async def replace(self, **versions: Bundle) -> None:
        """Has other versions serve the policy, v1, v2 and so on, and waits until the gateway knows of no others."""
        numbers = {int(name.removeprefix("v")): bundle for name, bundle in versions.items()}
        await self._replica.load(
            {number: lambda bundle=bundle: PolicyRuntime(bundle) for number, bundle in numbers.items()}  # type: ignore[misc]
        )
        async with asyncio.timeout(20):
            while True:
                described = await describe(self._gateway, self._policy)
                if {entry.version for entry in described.versions} == set(numbers):
                    return
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def serving(gateway: GatewayProcess, policy: str, bundle: Bundle) -> AsyncIterator[Serving]:
    async with attached_replica(gateway, policy, {1: bundle}) as replica:
        yield Serving(gateway, policy, replica)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_by_another_version_is_taken_note_of(
    gateway: GatewayProcess, forgetful: Bundle, kind: str
) -> None:
    async with (
        serving(gateway, "replaced", forgetful) as versions,
        asker(kind, "replaced", address=gateway.address) as ask,
    ):
        assert (await ask.request(ONE)).version == 1
        await versions.replace(v2=forgetful)
        assert (await ask.request(ONE)).version == 2
        assert (await ask.describe()).version == 2


@pytest.mark.parametrize("kind", KINDS)
async def test_a_policy_that_gains_memory_is_played_with_it(
    gateway: GatewayProcess, forgetful: Bundle, remembering: Bundle, kind: str
) -> None:
    async with (
        serving(gateway, "gains", forgetful) as versions,
        asker(kind, "gains", address=gateway.address) as ask,
    ):
        answer = await ask.request(ONE, ActOptions(episode_start=[False]))
        assert not answer.state
        await versions.replace(v2=remembering)
        actions = []
        for _ in range(4):
            answer = await ask.request(ONE, ActOptions(state=answer.state, episode_start=[False]))
            actions.append(int(answer.action))
        assert actions == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_state_of_a_version_that_has_gone_is_no_silent_new_beginning(
    gateway: GatewayProcess, forgetful: Bundle, remembering: Bundle, kind: str
) -> None:
    async with (
        serving(gateway, "loses", remembering) as versions,
        asker(kind, "loses", address=gateway.address) as ask,
    ):
        state = (await ask.request(ONE)).state
        await versions.replace(v2=forgetful)
        with pytest.raises((FailedPreconditionError, InvalidArgumentError), match=r"version 1|has no memory"):
            await ask.request(ONE, ActOptions(state=state))
        # Whoever begins needs no state, whatever he still has.
        assert (await ask.request(ONE, ActOptions(state=state, episode_start=[True]))).version == 2
        assert (await ask.request(ONE)).version == 2


@pytest.mark.parametrize("kind", ["sync", "aio"])
async def test_predict_goes_through_all_changes_of_memory(
    gateway: GatewayProcess, forgetful: Bundle, remembering: Bundle, kind: str
) -> None:
    """As Stable-Baselines3's loops call it: with whatever state there was, for two environments at once."""
    two, goes_on = np.ones((2, 1), np.float32), np.zeros(2, bool)
    async with (
        serving(gateway, "turns", forgetful) as versions,
        asker(kind, "turns", address=gateway.address) as ask,
    ):
        _, state = await ask.predict(two, None, np.ones(2, bool))
        assert state is None
        await versions.replace(v2=remembering)
        for total in (1, 2, 3):
            action, state = await ask.predict(two, state, goes_on)
            assert action.tolist() == [total, total]
        action, state = await ask.predict(two, state, np.array([False, True]))
        assert action.tolist() == [4, 1]
        await versions.replace(v3=forgetful)
        _, state = await ask.predict(two, state, goes_on)
        assert state is None
        await versions.replace(v4=remembering)
        for total in (1, 2):
            action, state = await ask.predict(two, state, goes_on)
            assert action.tolist() == [total, total]


@pytest.mark.parametrize("kind", ["sync", "aio"])
async def test_predict_does_not_begin_anew_where_memory_goes_on(
    gateway: GatewayProcess, remembering: Bundle, kind: str
) -> None:
    async with (
        serving(gateway, "anew", remembering) as versions,
        asker(kind, "anew", address=gateway.address) as ask,
    ):
        _, state = await ask.predict(ONE, None, None)
        await versions.replace(v2=remembering)
        with pytest.raises(FailedPreconditionError, match=r"expected version 1 .* begin a new episode"):
            await ask.predict(ONE, state, None)
        action, _ = await ask.predict(ONE, state, [True])
        assert action == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_change_of_the_observation_space_is_told_once(
    gateway: GatewayProcess, forgetful: Bundle, wide: Bundle, kind: str
) -> None:
    async with (
        serving(gateway, "widened", forgetful) as versions,
        asker(kind, "widened", address=gateway.address) as ask,
    ):
        await ask.request(ONE)
        await versions.replace(v2=wide)
        # Whether the caller knows of the change or not.
        with pytest.raises(SpacesChangedError, match=r"spaces of version 1.*\(1,\).* got version 2.*\(2,\)"):
            await ask.request(np.ones(2, np.float32) if kind.startswith("sync") else ONE)
        for _ in range(2):
            assert (await ask.request(np.ones(2, np.float32))).version == 2
            with pytest.raises(InvalidArgumentError, match=r"float32\[2\]"):
                await ask.request(ONE)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_change_of_the_action_space_is_told_once(
    gateway: GatewayProcess, forgetful: Bundle, tmp_path: Path, kind: str
) -> None:
    driving = write_gaussian_bundle(tmp_path, observation_size=1)
    async with (
        serving(gateway, "drives", forgetful) as versions,
        asker(kind, "drives", address=gateway.address) as ask,
    ):
        await ask.request(ONE)
        await versions.replace(v2=driving)
        with pytest.raises(SpacesChangedError, match=r"actions Discrete\(10\), got version 2.*actions Box"):
            await ask.request(ONE)
        answer = await ask.request(ONE)
        assert (answer.version, answer.action.dtype) == (2, np.float32)


@pytest.mark.parametrize("kind", KINDS)
async def test_other_bounds_are_no_other_space(gateway: GatewayProcess, tmp_path: Path, kind: str) -> None:
    low, high = (write_linear_bundle(tmp_path / str(top), 1, 10, bounds=box(top)) for top in (1.0, 5.0))
    async with (
        serving(gateway, "bounded", low) as versions,
        asker(kind, "bounded", address=gateway.address, validate=True) as ask,
    ):
        await ask.request(ONE)
        with pytest.raises(InvalidArgumentError):
            await ask.request(3 * ONE)
        await versions.replace(v2=high)
        assert (await ask.request(3 * ONE)).version == 2


@pytest.mark.parametrize("kind", ["sync stream", "aio stream"])
async def test_many_requests_in_flight_learn_of_a_change_together(
    gateway: GatewayProcess, forgetful: Bundle, kind: str
) -> None:
    async with (
        serving(gateway, "crowd", forgetful) as versions,
        asker(kind, "crowd", address=gateway.address) as ask,
    ):
        await ask.request(ONE)
        await versions.replace(v2=forgetful)
        answers = await asyncio.gather(*(ask.request(ONE) for _ in range(100)))
        assert {answer.version for answer in answers} == {2}
