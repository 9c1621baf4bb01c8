"""What hostile clients send."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from steersman import tensors
from steersman.v1 import common_pb2, policy_pb2
from tests.inference_stub import infer_request
from tests.odd_messages import TEXTS

MEBIBYTE = 1024 * 1024
MAX_MESSAGE_BYTES = MEBIBYTE
OBSERVATION = np.ones(4, np.float32)
REQUEST = policy_pb2.ActRequest(policy="target", observation={"observation": tensors.encode(OBSERVATION)})
INFER_REQUEST = infer_request("target", {"observation": OBSERVATION})
TOO_LARGE = policy_pb2.ActRequest(policy="target", state=bytes(MAX_MESSAGE_BYTES))
INFER_TOO_LARGE = infer_request("target", {"observation": np.ones((MAX_MESSAGE_BYTES // 16, 4), np.float32)})

EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What a client may be told, whatever it sends."""

ANY_TENSOR = st.builds(
    lambda dtype, shape, data: common_pb2.Tensor(dtype=dtype, shape=shape, data=data),
    st.integers(-(2**31), 2**31 - 1) | st.integers(0, 14),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 5), max_size=6),
    st.binary(max_size=64) | st.just(OBSERVATION.tobytes()),
)
ANY_REQUEST = st.builds(
    policy_pb2.ActRequest,
    policy=st.sampled_from(["target", "target:1", "target:2", "target@champion"]) | TEXTS,
    observation=st.dictionaries(st.just("observation") | TEXTS, ANY_TENSOR, max_size=3),
    options=st.none()
    | st.builds(
        common_pb2.ActOptions,
        sample=st.booleans(),
        seed=st.none() | st.integers(0, 2**64 - 1),
        log_probability=st.booleans(),
        value=st.booleans(),
        action_distribution_inputs=st.booleans(),
    ),
    state=st.binary(max_size=64),
    session_ids=st.lists(TEXTS, max_size=3),
    steps=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    episode_start=st.lists(st.booleans(), max_size=3),
    priority=st.integers(-(2**31), 2**31 - 1),
)


@st.composite
def mutated(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draws valid bytes with some of them changed, cut out or repeated."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        data[start:end] = draw(st.binary(max_size=8))
    return bytes(data)


def status(channel: grpc.Channel, path: str, data: bytes) -> grpc.StatusCode:
    """Sends raw bytes as a call with one request.

    Args:
        channel: The gateway.
        path: Service and method, such as "steersman.v1.PolicyService/Act".
        data: The bytes.
    """
    call: Any = channel.unary_unary(f"/{path}")
    try:
        call(data, timeout=10)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK
