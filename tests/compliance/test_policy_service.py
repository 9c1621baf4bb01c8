"""The rules of `steersman.v1.PolicyService`, as policy.proto has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from steersman import tensors
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc
from tests.compliance.observations import Arrays, draw, formats_of, many

pytestmark = pytest.mark.integration

Stub: TypeAlias = "policy_pb2_grpc.PolicyServiceAsyncStub"
ActRequest = policy_pb2.ActRequest

BATCH = 5
SECONDS = 30


@pytest.fixture
async def described(policies: Stub, policy: str) -> policy_pb2.Policy:
    return await describe(policies, policy)


@pytest.fixture
def spec(described: policy_pb2.Policy) -> common_pb2.PolicySpec:
    return default_spec(described)


async def describe(policies: Stub, address: str) -> policy_pb2.Policy:
    return (await policies.GetPolicy(policy_pb2.GetPolicyRequest(policy=address), timeout=SECONDS)).policy


def default_spec(policy: policy_pb2.Policy) -> common_pb2.PolicySpec:
    return next(version.spec for version in policy.versions if version.version == policy.default_version)


def act_request(address: str, observation: Arrays) -> ActRequest:
    return ActRequest(policy=address, observation={name: tensors.encode(array) for name, array in observation.items()})


def request_of(address: str, spec: common_pb2.PolicySpec, size: int | None = None, seed: int = 0) -> ActRequest:
    return act_request(address, draw(formats_of(spec.observation_tensors), size, seed))


def action_of(response: policy_pb2.ActResponse) -> dict[str, np.ndarray]:
    return {name: tensors.decode(tensor) for name, tensor in response.action.items()}


async def act(policies: Stub, request: ActRequest) -> policy_pb2.ActResponse:
    return await policies.Act(request, timeout=SECONDS)


async def code_of(policies: Stub, request: ActRequest, timeout: float = SECONDS) -> grpc.StatusCode:
    """Gives the status that a request ends with."""
    try:
        await policies.Act(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def assert_equal(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


async def test_health_says_serving(channel: grpc.aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    for service in ("", "steersman.v1.PolicyService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_policies_are_listed_by_name(policies: Stub, policy: str) -> None:
    listed = await policies.ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=SECONDS)
    names = [entry.name for entry in listed.policies]
    assert names == sorted(names)
    assert policy in names


async def test_versions_are_listed_ascending_from_one(described: policy_pb2.Policy) -> None:
    numbers = [version.version for version in described.versions]
    assert numbers == sorted(set(numbers))
    assert min(numbers) >= 1
    assert described.default_version in numbers


async def test_a_version_says_what_it_takes_and_gives(described: policy_pb2.Policy) -> None:
    for version in described.versions:
        for specs in (version.spec.observation_tensors, version.spec.action_tensors):
            assert specs
            assert len({entry.name for entry in specs}) == len(specs)
            assert all(entry.name and entry.dtype in tensors.NUMPY_DTYPES for entry in specs)


async def test_a_versions_address_describes_it_alone(policies: Stub, described: policy_pb2.Policy) -> None:
    number = described.versions[0].version
    pinned = await describe(policies, f"{described.name}:{number}")
    assert [version.version for version in pinned.versions] == [number]


async def test_one_observation_gets_one_action(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    action = action_of(await act(policies, request_of(policy, spec)))
    expected = {name: (dtype, shape) for name, dtype, shape in formats_of(spec.action_tensors)}
    assert {name: (array.dtype, array.shape) for name, array in action.items()} == expected


async def test_a_batch_gets_as_many_actions(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    action = action_of(await act(policies, request_of(policy, spec, BATCH)))
    expected = {name: (dtype, (BATCH, *shape)) for name, dtype, shape in formats_of(spec.action_tensors)}
    assert {name: (array.dtype, array.shape) for name, array in action.items()} == expected


async def test_a_batch_of_one_keeps_its_axis(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    action = action_of(await act(policies, request_of(policy, spec, 1)))
    assert all(array.shape[0] == 1 for array in action.values())
    assert {name: array.shape[1:] for name, array in action.items()} == {
        name: shape for name, _, shape in formats_of(spec.action_tensors)
    }


async def test_a_batch_is_answered_in_its_order(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    observation = draw(formats_of(spec.observation_tensors), BATCH)
    whole = action_of(await act(policies, act_request(policy, observation)))
    rows = await asyncio.gather(
        *(act(policies, act_request(policy, {k: v[row] for k, v in observation.items()})) for row in range(BATCH))
    )
    for name, array in whole.items():
        alone = np.stack([action_of(row)[name] for row in rows])
        # Batches of another size may differ in the last digits of a float.
        np.testing.assert_allclose(alone, array, rtol=1e-4, atol=1e-5)


async def test_a_large_batch_is_answered_whole(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    action = action_of(await act(policies, request_of(policy, spec, 1000)))
    assert {len(array) for array in action.values()} == {1000}


async def test_without_options_actions_are_greedy(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    request = request_of(policy, spec, BATCH)
    first, second = [action_of(await act(policies, request)) for _ in range(2)]
    assert_equal(first, second)


async def test_the_answer_names_its_version(policies: Stub, described: policy_pb2.Policy) -> None:
    for version in described.versions:
        address = f"{described.name}:{version.version}"
        assert (await act(policies, request_of(address, version.spec))).version == version.version


async def test_a_seed_repeats_a_draw(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    request = request_of(policy, spec, BATCH)
    request.options.sample = True
    request.options.seed = 7
    code = await code_of(policies, request)
    if code == grpc.StatusCode.FAILED_PRECONDITION:
        pytest.skip("the policy has no distribution to draw from")
    first, second = [action_of(await act(policies, request)) for _ in range(2)]
    assert_equal(first, second)


async def test_extras_come_only_if_asked_for(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    request = request_of(policy, spec, BATCH)
    assert not (await act(policies, request)).extras
    for entry in spec.extra_tensors:
        request.options.Clear()
        setattr(request.options, entry.name, True)
        extras = (await act(policies, request)).extras
        assert list(extras) == [entry.name]
        assert tensors.decode(extras[entry.name]).shape == (BATCH, *entry.shape)


async def test_extras_that_there_are_not_are_refused(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    known = {entry.name for entry in spec.extra_tensors}
    missing = {"value", "log_probability", "action_distribution_inputs"} - known
    if not missing:
        pytest.skip("the policy has every extra")
    request = request_of(policy, spec)
    setattr(request.options, missing.pop(), True)
    assert await code_of(policies, request) == grpc.StatusCode.FAILED_PRECONDITION


async def test_low_priority_is_answered_too(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    request = request_of(policy, spec)
    request.priority = policy_pb2.PRIORITY_BATCH
    assert await code_of(policies, request) == grpc.StatusCode.OK


@pytest.mark.parametrize("address", ["{}-that-nobody-has-deployed", "{}:999999", "{}@no-such-alias"])
async def test_whom_nobody_knows_is_not_found(
    policies: Stub, policy: str, spec: common_pb2.PolicySpec, address: str
) -> None:
    assert await code_of(policies, request_of(address.format(policy), spec)) == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("address", ["", ":1", "{}:", "{}:newest", "{}:0", "{}@"])
async def test_what_is_no_address_is_refused(
    policies: Stub, policy: str, spec: common_pb2.PolicySpec, address: str
) -> None:
    assert await code_of(policies, request_of(address.format(policy), spec)) == grpc.StatusCode.INVALID_ARGUMENT


def without_a_tensor(request: ActRequest, name: str) -> None:
    del request.observation[name]


def with_another_tensor(request: ActRequest, name: str) -> None:
    request.observation["no/such/tensor"].CopyFrom(request.observation[name])


def with_another_dtype(request: ActRequest, name: str) -> None:
    tensor = request.observation[name]
    tensor.dtype = common_pb2.DATA_TYPE_INT8 if tensor.dtype != common_pb2.DATA_TYPE_INT8 else common_pb2.DATA_TYPE_BOOL


def with_no_dtype(request: ActRequest, name: str) -> None:
    request.observation[name].dtype = common_pb2.DATA_TYPE_UNSPECIFIED


def with_two_more_axes(request: ActRequest, name: str) -> None:
    shape = list(request.observation[name].shape)
    request.observation[name].shape[:] = [1, 1, *shape]


def with_a_negative_length(request: ActRequest, name: str) -> None:
    shape = list(request.observation[name].shape)
    request.observation[name].shape[:] = [-1, *shape]


def with_an_empty_batch(request: ActRequest, name: str) -> None:
    tensor = request.observation[name]
    shape = list(tensor.shape)
    tensor.shape[:] = [0, *shape]
    tensor.data = b""


def with_a_byte_less(request: ActRequest, name: str) -> None:
    request.observation[name].data = request.observation[name].data[:-1]


def with_a_byte_more(request: ActRequest, name: str) -> None:
    request.observation[name].data += b"\0"


@pytest.mark.parametrize(
    "change",
    [
        without_a_tensor,
        with_another_tensor,
        with_another_dtype,
        with_no_dtype,
        with_two_more_axes,
        with_a_negative_length,
        with_an_empty_batch,
        with_a_byte_less,
        with_a_byte_more,
    ],
)
async def test_an_observation_that_does_not_fit_is_refused(
    policies: Stub, policy: str, spec: common_pb2.PolicySpec, change: Callable[[ActRequest, str], None]
) -> None:
    request = request_of(policy, spec)
    change(request, spec.observation_tensors[0].name)
    assert await code_of(policies, request) == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_deadline_that_passes_ends_a_call(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    request = request_of(policy, spec, many(formats_of(spec.observation_tensors)))
    assert await code_of(policies, request, timeout=0.001) == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_state_without_memory_is_refused(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    request = request_of(policy, spec)
    request.state = b"a state"
    assert await code_of(policies, request) == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_answers_every_request_once_by_its_id(
    policies: Stub, policy: str, spec: common_pb2.PolicySpec
) -> None:
    call = policies.ActStream(timeout=SECONDS)
    expected = {}
    for number in range(50):
        request = request_of(policy, spec, seed=number % 3)
        expected[number * 7] = action_of(await act(policies, request))
        await call.write(policy_pb2.ActStreamRequest(id=number * 7, request=request))
    await call.done_writing()
    answers = [answer async for answer in call]
    assert sorted(answer.id for answer in answers) == sorted(expected)
    for answer in answers:
        for name, array in action_of(answer.response).items():
            np.testing.assert_allclose(array, expected[answer.id][name], rtol=1e-4, atol=1e-5)
    assert await call.code() == grpc.StatusCode.OK


async def test_a_stream_goes_on_after_an_error(policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
    call = policies.ActStream(timeout=SECONDS)
    good = request_of(policy, spec)
    for number, request in enumerate([good, request_of(f"{policy}:999999", spec), good]):
        await call.write(policy_pb2.ActStreamRequest(id=number, request=request))
    await call.done_writing()
    answers = {answer.id: answer async for answer in call}
    assert answers[1].error.code == grpc.StatusCode.NOT_FOUND.value[0]
    assert answers[1].error.message
    assert [answers[number].WhichOneof("result") for number in (0, 2)] == ["response", "response"]
    assert await call.code() == grpc.StatusCode.OK


async def test_a_stream_without_requests_ends_well(policies: Stub) -> None:
    call = policies.ActStream(timeout=SECONDS)
    await call.done_writing()
    assert [answer async for answer in call] == []
    assert await call.code() == grpc.StatusCode.OK


class Episode:
    """Steps a policy with memory through one observation at a time, always the same."""

    def __init__(self, policies: Stub, policy: str, spec: common_pb2.PolicySpec) -> None:
        self._policies = policies
        self._policy = policy
        self._spec = spec

    def request(self, *session_ids: str, state: bytes = b"", start: bool = False, step: int = 0) -> ActRequest:
        request = request_of(self._policy, self._spec, 1, seed=1)
        request.session_ids.extend(session_ids)
        request.state = state
        if start:
            request.episode_start.append(True)
        if step:
            request.steps.append(step)
        return request

    async def step(
        self, *session_ids: str, state: bytes = b"", start: bool = False, step: int = 0
    ) -> policy_pb2.ActResponse:
        return await act(self._policies, self.request(*session_ids, state=state, start=start, step=step))


@pytest.fixture
async def episode(policies: Stub, policy_with_memory: str) -> Episode:
    described = await describe(policies, policy_with_memory)
    return Episode(policies, policy_with_memory, default_spec(described))


async def test_a_state_that_is_carried_goes_on(episode: Episode) -> None:
    first = await episode.step()
    assert first.state
    second, again = [await episode.step(state=first.state) for _ in range(2)]
    assert_equal(action_of(second), action_of(again))


async def test_a_session_is_what_a_carried_state_is(episode: Episode) -> None:
    carried = await episode.step()
    kept = await episode.step("compliance", start=True)
    assert not kept.state
    for _ in range(3):
        assert_equal(action_of(carried), action_of(kept))
        carried = await episode.step(state=carried.state)
        kept = await episode.step("compliance")


async def test_a_numbered_step_that_is_sent_again_advances_the_episode_once(policies: Stub, episode: Episode) -> None:
    state = b""
    for step in range(1, 4):
        carried = await episode.step(state=state)
        for _ in range(2):
            kept = await episode.step("compliance", start=step == 1, step=step)
            assert_equal(action_of(carried), action_of(kept))
        state = carried.state
    for step in (2, 5):
        assert await code_of(policies, episode.request("compliance", step=step)) == grpc.StatusCode.FAILED_PRECONDITION


async def test_an_episode_that_starts_forgets(episode: Episode) -> None:
    first = await episode.step()
    started = await episode.step(state=first.state, start=True)
    assert_equal(action_of(started), action_of(first))


async def test_a_state_that_no_gateway_gave_is_refused(policies: Stub, episode: Episode) -> None:
    state = bytearray((await episode.step()).state)
    state[-1] ^= 1
    for forged in (bytes(state), b"forged"):
        assert await code_of(policies, episode.request(state=forged)) == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_session_that_nobody_began_is_refused(policies: Stub, episode: Episode) -> None:
    assert await code_of(policies, episode.request("never begun")) == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_state_and_a_session_at_once_are_refused(policies: Stub, episode: Episode) -> None:
    state = (await episode.step()).state
    request = episode.request("compliance", state=state, start=True)
    assert await code_of(policies, request) == grpc.StatusCode.INVALID_ARGUMENT
