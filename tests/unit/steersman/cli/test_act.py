from __future__ import annotations

import functools
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from steersman import spaces, tensors
from steersman.cli.act import _of_dtype, _read
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc
from tests.command_line import CommandLine
from tests.unit.steersman.cli.servers import served


@pytest.mark.parametrize("text", ["[0, ", '["a"]', '["1"]', "[null, 0]", "null", "{}", "[[1, 2], [3]]", "[{}]"])
def test_what_is_no_array_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected a JSON array of numbers, got {re.escape(repr(text))}"):
        _read(text)


@pytest.mark.parametrize(
    ("text", "dtype", "expected"), [("[0.1, 1]", "f4", [0.1, 1]), ("3", "i8", 3), ("[255]", "u1", [255])]
)
def test_numbers_get_the_dtype_of_the_policy(text: str, dtype: str, expected: object) -> None:
    converted = _of_dtype(_read(text), np.dtype(dtype))
    assert converted.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(converted, np.asarray(expected, dtype))


@pytest.mark.parametrize(("text", "dtype"), [("[1.5]", "i8"), ("[256]", "u1"), ("[-1]", "u1"), ("[NaN]", "i8")])
def test_numbers_that_would_change_are_refused(text: str, dtype: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected numbers that {np.dtype(dtype).name} can hold"):
        _of_dtype(_read(text), np.dtype(dtype))


class Doubling(policy_pb2_grpc.PolicyServiceServicer):
    """A gateway with one policy, which takes two integers and acts with twice of them."""

    async def GetPolicy(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.GetPolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.GetPolicyResponse:
        box = common_pb2.BoxSpace(dtype=common_pb2.DATA_TYPE_INT32, shape=[2], low=[0], high=[9])
        space = common_pb2.Space(box=box)
        spec = common_pb2.PolicySpec(
            observation_space=space,
            action_space=space,
            observation_tensors=spaces.tensor_specs(space, spaces.OBSERVATION),
            action_tensors=spaces.tensor_specs(space, spaces.ACTION),
        )
        policy = policy_pb2.Policy(name="doubling", default_version=7)
        policy.versions.add(version=7, spec=spec, replicas=1)
        return policy_pb2.GetPolicyResponse(policy=policy)

    async def Act(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ActRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.ActResponse:
        observation = tensors.decode(request.observation[spaces.OBSERVATION])
        action = tensors.encode(np.multiply(observation, 2, dtype=np.int32))
        return policy_pb2.ActResponse(action={spaces.ACTION: action}, version=7)

    async def ListPolicies(  # noqa: N802 - gRPC's name
        self, request: policy_pb2.ListPoliciesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> policy_pb2.ListPoliciesResponse:
        raise NotImplementedError

    async def ActStream(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        raise NotImplementedError
        yield


@pytest.fixture
def doubling(steersman: CommandLine) -> Iterator[None]:
    with served(functools.partial(policy_pb2_grpc.add_PolicyServiceServicer_to_server, Doubling())) as address:
        steersman.configure(gateway_address=address)
        yield


@pytest.mark.usefixtures("doubling")
def test_the_action_is_printed_with_the_version_and_the_latency(steersman: CommandLine) -> None:
    printed = steersman("act", "doubling", "[1, 3]").output
    assert re.fullmatch(r"action \[2, 6\], by version 7 in \d+\.\d ms\n", printed)
    answer = json.loads(steersman("act", "doubling", "[[1, 3], [0, 2]]", "--json").output)
    assert (answer["action"], answer["version"]) == ([[2, 6], [0, 4]], 7)
    assert answer["milliseconds"] > 0


@pytest.mark.usefixtures("doubling")
def test_an_observation_that_does_not_fit_is_explained(steersman: CommandLine) -> None:
    result = steersman("act", "doubling", "[1, 2, 3]")
    assert result.exit_code == 1
    assert "Error: expected observation int32[2], or a batch of them, got int32[3]" in result.errors
    assert "expected numbers that int32 can hold, got [0.5, 1.0]" in steersman("act", "doubling", "[0.5, 1]").errors
