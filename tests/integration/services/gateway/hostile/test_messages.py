"""Calls with one request: whatever bytes it has, its client gets a status that says what is wrong."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.bundle import Bundle
from steersman import tensors
from steersman.inference.v1 import inference_pb2
from steersman.v1 import common_pb2, deployment_pb2, policy_pb2, policy_pb2_grpc
from tests.gateways import GatewayProcess, gateway_process, policy_stub, replica_process, until_replicas
from tests.inference_stub import InferRequest
from tests.integration.services.gateway.hostile.requests import (
    ANSWERS,
    ANY_REQUEST,
    EXAMPLES,
    INFER_REQUEST,
    INFER_TOO_LARGE,
    MAX_MESSAGE_BYTES,
    OBSERVATION,
    REQUEST,
    TOO_LARGE,
    mutated,
    status,
)
from tests.odd_messages import messages

pytestmark = pytest.mark.integration

ACT, GET, INFER, READY, UNDEPLOY = (
    "steersman.v1.PolicyService/Act",
    "steersman.v1.PolicyService/GetPolicy",
    "inference.GRPCInferenceService/ModelInfer",
    "inference.GRPCInferenceService/ModelReady",
    "steersman.v1.DeploymentService/Undeploy",
)
VALID = {
    ACT: REQUEST,
    GET: policy_pb2.GetPolicyRequest(policy="target"),
    INFER: INFER_REQUEST,
    READY: inference_pb2.ModelReadyRequest(name="target", version="1"),
    UNDEPLOY: deployment_pb2.UndeployRequest(policy="nobody", expected_revision=3),
}


@given(request=ANY_REQUEST)
@EXAMPLES
def test_any_request_gets_a_status(channel: grpc.Channel, request: policy_pb2.ActRequest) -> None:
    assert status(channel, ACT, request.SerializeToString()) in ANSWERS


@given(request=messages(InferRequest, INFER_REQUEST))
@EXAMPLES
def test_any_request_of_the_open_inference_protocol_gets_a_status(channel: grpc.Channel, request: InferRequest) -> None:
    assert status(channel, INFER, request.SerializeToString()) in ANSWERS


@pytest.mark.parametrize("path", VALID)
@given(data=st.data())
@EXAMPLES
def test_any_bytes_get_a_status(channel: grpc.Channel, path: str, data: st.DataObject) -> None:
    sent = data.draw(mutated(VALID[path].SerializeToString()) | st.binary(max_size=200))
    assert status(channel, path, sent) in ANSWERS


@pytest.mark.parametrize("path", VALID)
def test_bytes_that_are_no_message_are_the_clients_fault(channel: grpc.Channel, path: str) -> None:
    for data in (b"\xff", VALID[path].SerializeToString()[:-1], b"\x0a\x02\xc3\x28"):
        assert status(channel, path, data) == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("path", "request_"), [(ACT, TOO_LARGE), (INFER, INFER_TOO_LARGE)])
def test_a_message_that_is_too_large_is_the_clients_fault(
    channel: grpc.Channel, path: str, request_: policy_pb2.ActRequest | InferRequest
) -> None:
    assert status(channel, path, request_.SerializeToString()) == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_that_is_much_too_large_is_not_read(channel: grpc.Channel) -> None:
    request = policy_pb2.ActRequest(policy="target", state=bytes(8 * MAX_MESSAGE_BYTES))
    assert status(channel, ACT, request.SerializeToString()) == grpc.StatusCode.RESOURCE_EXHAUSTED


def large_batch() -> np.ndarray:
    """Fits as a request; its answer does not, with everything in it that can be asked for."""
    return np.ones((MAX_MESSAGE_BYTES // 17, 4), np.float32)


def test_a_request_whose_answer_would_be_too_large_is_refused(channel: grpc.Channel) -> None:
    request = policy_pb2.ActRequest(policy="target", observation={"observation": tensors.encode(large_batch())})
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    assert stub.Act(request, timeout=20).version == 1
    request.options.CopyFrom(common_pb2.ActOptions(log_probability=True, action_distribution_inputs=True))
    with pytest.raises(grpc.RpcError) as refused:
        stub.Act(request, timeout=20)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert f"expected ActResponse of at most {MAX_MESSAGE_BYTES} bytes" in str(refused.value.details())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
async def test_numbers_that_are_none_are_computed_unless_the_gateway_is_told_to_refuse_them(
    gateway: GatewayProcess, number: float
) -> None:
    observation = np.array([1, 2, 3, number], np.float32)
    request = policy_pb2.ActRequest(policy="target", observation={"observation": tensors.encode(observation)})
    async with policy_stub(gateway) as stub:
        await stub.Act(request, timeout=5)


async def test_a_gateway_can_refuse_numbers_that_are_none(
    tmp_path_factory: pytest.TempPathFactory, bundle: Bundle
) -> None:
    request = policy_pb2.ActRequest(policy="strict")
    with (
        gateway_process(tmp_path_factory.mktemp("gateway"), reject_nonfinite=True) as strict,
        replica_process("strict", bundle, strict),
    ):
        await until_replicas(strict, "strict", 1)
        async with policy_stub(strict) as stub:
            for number in (np.nan, np.inf, -np.inf):
                observation = np.array([1, 2, 3, number], np.float32)
                request.observation["observation"].CopyFrom(tensors.encode(observation))
                with pytest.raises(grpc.aio.AioRpcError, match="expected finite numbers") as refused:
                    await stub.Act(request, timeout=5)
                assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            request.observation["observation"].CopyFrom(tensors.encode(OBSERVATION))
            await stub.Act(request, timeout=5)
