"""A policy whose observations and actions have parts, from the SDK to the replica's process and back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from gymnasium.vector.utils import concatenate, create_empty_array

from services.common.server import Service, create_server
from services.evaluator.api.requests import Defaults
from services.evaluator.api.service import EvaluatorService
from steersman import ActOptions, PolicyClient, spaces, tensors
from steersman.aio import PolicyClient as AsyncPolicyClient
from steersman.errors import InvalidArgumentError
from steersman.settings import Settings
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc, policy_pb2
from tests.gateways import GatewayProcess, gateway_process, policy_stub, replica_process, until_described
from tests.gymnasium_spaces import same
from tests.nested_bundle import ACTION_SPACE, OBSERVATION_SPACE, Gripping, write_nested_bundle

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with a replica of the policy, each in a process of its own."""

    async def until_served(address: str) -> None:
        async with AsyncPolicyClient("gripping", address=address) as client:
            await until_described(client)

    bundle = write_nested_bundle(tmp_path_factory.mktemp("bundle"))
    with (
        gateway_process(tmp_path_factory.mktemp("gateway")) as process,
        replica_process("gripping", bundle, process),
    ):
        asyncio.run(until_served(process.address))
        yield process


def first_steps(count: int) -> tuple[list[Any], list[Any]]:
    """Gives observations that begin an episode, and the right actions."""
    environments = [Gripping() for _ in range(count)]
    observations = [environment.reset(seed=seed)[0] for seed, environment in enumerate(environments)]
    return observations, [environment.right_action() for environment in environments]


def test_one_observation_is_answered_with_an_action_of_the_space(gateway: GatewayProcess) -> None:
    (observation,), (right,) = first_steps(1)
    with PolicyClient("gripping", address=gateway.address, validate=True) as client:
        action = client.act(observation, reward=0)
    assert same(action, right)
    assert ACTION_SPACE.contains(action)


def test_the_space_that_is_described_is_the_one_of_the_environment(gateway: GatewayProcess) -> None:
    with PolicyClient("gripping", address=gateway.address) as client:
        spec = client.describe().spec
    assert spaces.to_gymnasium(spec.observation_space) == OBSERVATION_SPACE
    assert spaces.to_gymnasium(spec.action_space) == ACTION_SPACE


async def test_batches_and_streams_say_the_same(gateway: GatewayProcess) -> None:
    observations, right = first_steps(40)
    batch = concatenate(OBSERVATION_SPACE, observations, create_empty_array(OBSERVATION_SPACE, 40))
    async with (
        AsyncPolicyClient("gripping", address=gateway.address, validate=True) as client,
        client.stream() as stream,
    ):
        layout = (await client.describe()).format.action
        for given_as in (batch, observations):
            actions = await client.act(given_as, reward=np.zeros(40))
            assert all(map(same, spaces.unbatch(actions, layout), right))
            assert same(await stream.act(given_as, reward=np.zeros(40)), actions)
        singly = await asyncio.gather(*(stream.act(observation, reward=0) for observation in observations))
        assert all(map(same, singly, right))


def test_an_action_that_the_mask_forbids_is_never_chosen(gateway: GatewayProcess) -> None:
    (observation,), _ = first_steps(1)
    with PolicyClient("gripping", address=gateway.address) as client:
        for grip in range(4):
            mask = np.arange(4) == grip
            assert client.act(observation | {"action/mask": mask}, reward=0)["grip"] == grip


@pytest.mark.parametrize("over_stream", [False, True])
def test_an_episode_recalls_states_and_rewards(gateway: GatewayProcess, over_stream: bool) -> None:
    environment = Gripping()
    with PolicyClient("gripping", address=gateway.address) as client, client.stream() as stream:
        observation, _ = environment.reset(seed=3)
        state, reward, ended, steps = b"", 0.0, False, 0
        while not ended:
            answer = (stream if over_stream else client).request(observation, ActOptions(state=state), reward=reward)
            observation, reward, terminated, truncated, _ = environment.step(answer.action)
            assert not terminated
            state, ended, steps = answer.state, truncated, steps + 1
    assert steps > 2


def test_predict_recalls_batches_of_episodes(gateway: GatewayProcess) -> None:
    environments = [Gripping() for _ in range(3)]
    observations = [environment.reset(seed=3)[0] for environment in environments]
    with PolicyClient("gripping", address=gateway.address) as client:
        layout = client.describe().format.action
        first, state = client.predict(observations, reward=np.zeros(3))
        taken = list(zip(environments, spaces.unbatch(first, layout), strict=True))
        stepped = [environment.step(action) for environment, action in taken]
        second, _ = client.predict([step[0] for step in stepped], state, reward=[step[1] for step in stepped])
    assert all(map(same, spaces.unbatch(second, layout), [environment.right_action() for environment in environments]))


async def test_sessions_recall_states_of_several_tensors(gateway: GatewayProcess) -> None:
    environment = Gripping()
    observation, _ = environment.reset(seed=3)
    reward = 0.0
    async with AsyncPolicyClient("gripping", address=gateway.address) as client, policy_stub(gateway) as stub:
        info = await client.describe()
        for step in range(2):
            request = policy_pb2.ActRequest(policy="gripping", session_ids=["one"], episode_start=[step == 0])
            for name, array in info.format.encode([observation], [reward], validate=True).items():
                request.observation[name].CopyFrom(tensors.encode(array))
            response = await stub.Act(request, timeout=10)
            arrays = {name: tensors.decode(tensor) for name, tensor in response.action.items()}
            (action,) = spaces.unbatch(spaces.unflatten(arrays, info.format.action), info.format.action)
            assert same(action, environment.right_action())
            observation, reward, *_ = environment.step(action)


async def test_what_does_not_fit_is_refused_before_it_is_sent(gateway: GatewayProcess) -> None:
    (observation,), _ = first_steps(1)
    far = observation | {"position": [99, 0]}
    async with (
        AsyncPolicyClient("gripping", address=gateway.address, validate=True) as strict,
        AsyncPolicyClient("gripping", address=gateway.address) as lenient,
        strict.stream() as stream,
    ):
        for ask in (strict.act, stream.act):
            with pytest.raises(InvalidArgumentError, match=r"observation/position between -10.0 and 10.0 at \[0\]"):
                await ask(far, reward=0)
            with pytest.raises(InvalidArgumentError, match="expected the reward of the step before"):
                await ask(observation)
        assert (await lenient.act(far, reward=0))["moves"][0].tolist() == [99, 0]
        with pytest.raises(InvalidArgumentError, match="with the parts"):
            await lenient.act({"camera": observation["camera"]}, reward=0)


@pytest.mark.parametrize("environments", [1, 5])
async def test_the_evaluator_plays_such_environments(gateway: GatewayProcess, environments: int) -> None:
    servicer = EvaluatorService(Defaults(gateway.address, modules=("tests.integration.steersman.environments",)))
    services = [Service(evaluator_pb2.DESCRIPTOR.services_by_name["EvaluatorService"], servicer)]
    server = create_server(Settings(), "127.0.0.1:0", services, grace_seconds=0)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            request = evaluator_pb2.EvaluateRequest(policy="gripping", episodes=13, num_environments=environments)
            events = [event async for event in evaluator_pb2_grpc.EvaluatorServiceStub(channel).Evaluate(request)]
    finally:
        await server.stop()
    episodes = events[-1].report.episodes
    assert len(episodes) == 13
    # One wrong action would have ended its episode.
    assert all(episode.truncated and not episode.terminated for episode in episodes)
    assert {episode.length for episode in episodes} == {2, 3, 4, 5}
    for episode in episodes:
        assert episode.episode_return == sum(1 + 0.25 * step for step in range(episode.length))
