from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple

from services.common.server import Service
from steersman import spaces, tensors
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc
from tests.command_line import CommandLine
from tests.servers import served


class Echo(policy_pb2_grpc.PolicyServiceServicer):
    """A gateway with one policy, that acts with twice of each number it is shown.

    Args:
        space: Space of its observations and of its actions.
        takes_reward: Whether it wants the reward of the step before, and adds it.
    """

    def __init__(self, space: gymnasium.Space[Any], takes_reward: bool = False) -> None:
        described = spaces.from_gymnasium(space)
        self._spec = common_pb2.PolicySpec(
            observation_space=described,
            action_space=described,
            observation_tensors=spaces.tensor_specs(described, spaces.OBSERVATION),
            action_tensors=spaces.tensor_specs(described, spaces.ACTION),
        )
        if takes_reward:
            self._spec.observation_tensors.add(name=spaces.PREVIOUS_REWARD, dtype=common_pb2.DATA_TYPE_FLOAT32)

    async def GetPolicy(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.GetPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.GetPolicyResponse:
        policy = policy_pb2.Policy(name="echo", default_version=7)
        policy.versions.add(version=7, spec=self._spec, replicas=1)
        return policy_pb2.GetPolicyResponse(policy=policy)

    async def Act(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ActRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.ActResponse:
        arrays = {name: tensors.decode(tensor) for name, tensor in request.observation.items()}
        reward = arrays.pop(spaces.PREVIOUS_REWARD, np.zeros((), np.float32))
        action = {
            name.replace(spaces.OBSERVATION, spaces.ACTION, 1): tensors.encode(
                (2 * array + reward.astype(array.dtype)).astype(array.dtype)
            )
            for name, array in arrays.items()
        }
        return policy_pb2.ActResponse(action=action, version=7)

    async def ListPolicies(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ListPoliciesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.ListPoliciesResponse:
        raise NotImplementedError

    async def ActStream(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield


Serve = Callable[[Echo], CommandLine]

VECTOR = Box(0, 99, (2,), np.int32)
NESTED = Dict({"a/b": Box(0, 255, (2,), np.uint8), "größe": Tuple([Discrete(99), Box(-99, 99, (1,))])})


@pytest.fixture
def serve(steersman: CommandLine) -> Iterator[Serve]:
    """Serves a policy, and gives the command line that finds it."""
    with contextlib.ExitStack() as serving:

        def start(echo: Echo) -> CommandLine:
            service = Service(policy_pb2.DESCRIPTOR.services_by_name["PolicyService"], echo)
            steersman.configure(gateway_address=serving.enter_context(served(service)))
            return steersman

        yield start


def test_the_action_is_printed_with_the_version_and_the_latency(serve: Serve) -> None:
    steersman = serve(Echo(VECTOR))
    printed = steersman("act", "echo", "[1, 3]").output
    assert re.fullmatch(r"action \[2, 6\], by version 7 in \d+\.\d ms\n", printed)
    answer = json.loads(steersman("act", "echo", "[[1, 3], [0, 2]]", "--json").output)
    assert (answer["action"], answer["version"]) == ([[2, 6], [0, 4]], 7)
    assert answer["milliseconds"] > 0


def test_observations_and_actions_may_have_parts(serve: Serve) -> None:
    steersman = serve(Echo(NESTED))
    one = '{"a/b": [1, 2], "größe": [3, [0.25]]}'
    assert steersman("act", "echo", one).output.startswith('action {"a/b": [2, 4], "größe": [6, [0.5]]}, by version 7')
    many = json.loads(steersman("act", "echo", f"[{one}, {one}]", "--json").output)
    assert many["action"] == {"a/b": [[2, 4], [2, 4]], "größe": [[6, 6], [[0.5], [0.5]]]}
    as_arrays = json.loads(
        steersman("act", "echo", json.dumps({"a/b": [[1, 2]], "größe": [[3], [[1]]]}), "--json").output
    )
    assert as_arrays["action"] == {"a/b": [[2, 4]], "größe": [[6], [[2]]]}


def test_the_reward_of_the_step_before_is_passed_on(serve: Serve) -> None:
    steersman = serve(Echo(Discrete(9), takes_reward=True))
    assert json.loads(steersman("act", "echo", "3", "--reward", "2", "--json").output)["action"] == 8
    assert json.loads(steersman("act", "echo", "[3, 4]", "--reward", "[2, 0]", "--json").output)["action"] == [8, 8]
    assert "expected the reward of the step before" in steersman("act", "echo", "3").errors
    assert "expected the reward as JSON, got 'x'" in steersman("act", "echo", "3", "--reward", "x").errors


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        ("[1, 2, 3]", "expected observation int32[2], or a batch of them, got int64[3]"),
        ("[0.5, 1]", "expected observation of dtype int32, got float64"),
        ("[1, 3000000000]", "expected numbers that int32 can hold for observation, got 1 to 3000000000"),
        ("[0, ", "expected the observation as JSON, got '[0, '"),
        ("x", "expected the observation as JSON, got 'x'"),
        ('["a", "b"]', "expected observation of dtype int32, got str"),
        ("[null, 0]", "expected observation of dtype int32, got object"),
        ("[[1, 2], [3]]", "expected observation int32[2], got sequences of unequal lengths"),
        ("{}", "expected observation int32[2], or a batch of them, got object[]"),
    ],
)
def test_an_observation_that_does_not_fit_is_explained(serve: Serve, observation: str, words: str) -> None:
    result = serve(Echo(VECTOR))("act", "echo", observation)
    assert result.exit_code == 1
    assert f"Error: {words}" in " ".join(result.errors.split())
