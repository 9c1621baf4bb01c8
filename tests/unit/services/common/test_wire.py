from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.wire import has_at_most, schema_of
from steersman import tensors
from steersman.inference.v1 import inference_pb2
from steersman.v1 import policy_pb2, trainer_pb2
from tests.inference_stub import InferRequest, infer_request
from tests.odd_messages import messages

ACT = schema_of(policy_pb2.ActRequest)
INFER = schema_of(inference_pb2.ModelInferRequest)
RUN = schema_of(trainer_pb2.StartRunRequest)


def test_fields_of_parts_are_counted_with_those_of_the_whole() -> None:
    request = policy_pb2.ActRequest(policy="a")
    assert has_at_most(1, request.SerializeToString(), ACT)
    request.observation["camera"].CopyFrom(tensors.encode(np.zeros((3, 2), np.uint8)))
    # The policy; an entry with key and value; of the value dtype, shape and data.
    data = request.SerializeToString()
    assert has_at_most(7, data, ACT)
    assert not has_at_most(6, data, ACT)


def test_elements_cost_nothing() -> None:
    array = np.zeros(100_000, np.float32)
    request = infer_request("a", {"observation": array})
    assert has_at_most(6, request.SerializeToString(), INFER)
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend(array.tolist())
    assert has_at_most(7, request.SerializeToString(), INFER)


@pytest.mark.parametrize("part", [b"\x2a\x00", b"\x12\x00", b"\x32\x00", b"\x98\x06\x01", b"\x08\x01"])
def test_a_message_of_many_small_parts_has_too_many(part: bytes) -> None:
    data = part * 100_000
    assert has_at_most(100_000, data, INFER)
    assert not has_at_most(99_999, data, INFER)
    # Deep inside as well, and however it goes on.
    inner = b"\x2a" + bytes([*_length(len(data))]) + data
    assert not has_at_most(50_000, inner, INFER) or part == b"\x2a\x00"
    assert not has_at_most(50_000, data + b"\xff", INFER)


def _length(size: int) -> list[int]:
    digits = []
    while size >= 128:
        digits.append(size & 127 | 128)
        size >>= 7
    return [*digits, size]


@given(messages(trainer_pb2.StartRunRequest))
def test_any_message_that_can_be_written_passes(request: trainer_pb2.StartRunRequest) -> None:
    assert has_at_most(10_000, request.SerializeToString(), RUN)


@given(messages(InferRequest), st.integers(0, 100), st.binary(max_size=5))
def test_what_does_not_pass_could_not_be_read(request: InferRequest, cut: int, more: bytes) -> None:
    data = request.SerializeToString()
    data = data[: max(0, len(data) - cut)] + more
    if not has_at_most(10_000, data, INFER):
        with pytest.raises(Exception, match="Error parsing message"):
            InferRequest.FromString(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_looked_at(data: bytes) -> None:
    has_at_most(100, data, ACT)
