import numpy as np
import pytest

from services.gateway.requests.options import Options
from services.gateway.requests.request import Request
from services.gateway.requests.versions import Version, read_version
from services.gateway.serving.inference.outputs import ResponseWriter, check_outputs
from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import inference_pb2
from steersman.v1 import common_pb2, replica_pb2
from tests.inference_stub import outputs_of
from tests.unit.services.gateway.numbers import request

FLOAT = common_pb2.DATA_TYPE_FLOAT32


def version_with_parts() -> Version:
    """Gives a version with two action tensors, a state, which no client may see, and an extra."""
    spec = common_pb2.PolicySpec(
        observation_tensors=[common_pb2.TensorSpec(name="observation", dtype=common_pb2.DATA_TYPE_INT64)],
        action_tensors=[
            common_pb2.TensorSpec(name="action/a", dtype=common_pb2.DATA_TYPE_UINT8),
            common_pb2.TensorSpec(name="action/b", dtype=FLOAT, shape=[2]),
        ],
        state_tensors=[common_pb2.TensorSpec(name="state", dtype=FLOAT, shape=[3])],
        extra_tensors=[common_pb2.TensorSpec(name="value", dtype=FLOAT)],
    )
    return read_version(replica_pb2.LoadedVersion(version=4, spec=spec))


def answered(version: Version, size: int, batched: bool, extras: tuple[str, ...] = ()) -> Request:
    entry = request(size=size)
    entry.version = version
    entry.batched = batched
    entry.options = Options(sample=False, extras=extras)
    formats = version.outputs(entry.options)
    entry.outputs = tuple(bytes([index]) * (size * entry.row_bytes) for index, entry in enumerate(formats))
    return entry


def write(entry: Request, names: tuple[str, ...] = (), *, final: bool = False) -> inference_pb2.ModelInferResponse:
    response = inference_pb2.ModelInferResponse()
    ResponseWriter(final=final).write(entry, names, "an id", response)
    return response


def test_an_answer_is_the_action_and_nothing_else() -> None:
    response = write(answered(version_with_parts(), 1, batched=False, extras=("value",)))
    outputs = outputs_of(response)
    assert list(outputs) == ["action/a", "action/b"]
    assert [array.shape for array in outputs.values()] == [(), (2,)]
    assert response.raw_output_contents == [b"\0", b"\1" * 8]
    assert (response.model_name, response.model_version, response.id) == ("numbers", "4", "an id")
    assert not response.parameters


def test_outputs_come_in_the_order_in_which_they_were_asked_for() -> None:
    response = write(answered(version_with_parts(), 3, batched=True, extras=("value",)), ("value", "action/a"))
    outputs = outputs_of(response)
    assert list(outputs) == ["value", "action/a"]
    assert outputs["value"].tobytes() == b"\3" * 12
    assert outputs["action/a"].tolist() == [0, 0, 0]


def test_only_a_streams_answers_say_that_they_are_final() -> None:
    response = write(answered(version_with_parts(), 1, batched=False), final=True)
    assert response.parameters["triton_final_response"].bool_param


def test_answers_do_not_mix_whatever_came_before() -> None:
    writer = ResponseWriter(final=False)
    versions = [version_with_parts(), version_with_parts()]
    versions[1] = read_version(replica_pb2.LoadedVersion(version=9, spec=versions[0].spec))
    for _ in range(2):
        for version in versions:
            for size, batched in ((1, False), (1, True), (2, True)):
                entry = answered(version, size, batched)
                entry.outputs = (np.arange(size, dtype=np.uint8).tobytes(), *entry.outputs[1:])
                response = inference_pb2.ModelInferResponse()
                writer.write(entry, (), f"{size}", response)
                assert (response.model_version, response.id) == (str(version.number), f"{size}")
                shape = (size,) if batched else ()
                assert outputs_of(response)["action/a"].shape == shape
                assert outputs_of(response)["action/a"].reshape(-1).tolist() == list(range(size))


def test_outputs_that_there_are_not_are_refused() -> None:
    version = version_with_parts()
    check_outputs(version, ("value", "action/b"))
    with pytest.raises(InvalidArgumentError, match="got 'state'"):
        check_outputs(version, ("state",))
    with pytest.raises(InvalidArgumentError, match="expected each output once"):
        check_outputs(version, ("value", "value"))
