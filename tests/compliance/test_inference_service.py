"""The rules of the Open Inference Protocol, with those of Triton's additions that tools depend on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest

from steersman import tensors
from steersman.inference.v1 import inference_pb2, inference_pb2_grpc, model_config_pb2
from steersman.v1 import policy_pb2, policy_pb2_grpc
from tests.compliance.observations import Formats, draw, many
from tests.inference_stub import InferRequest, Parameter, infer_request, outputs_of, set_parameter

pytestmark = pytest.mark.integration

Stub: TypeAlias = "inference_pb2_grpc.GRPCInferenceServiceAsyncStub"
Metadata = inference_pb2.ModelMetadataResponse
TensorMetadata = inference_pb2.ModelMetadataResponse.TensorMetadata

BATCH = 5
SECONDS = 30

DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


async def describe(inference: Stub, model: str) -> Metadata:
    return await inference.ModelMetadata(inference_pb2.ModelMetadataRequest(name=model), timeout=SECONDS)


@pytest.fixture
async def metadata(inference: Stub, policy: str) -> Metadata:
    return await describe(inference, policy)


@pytest.fixture
async def config(inference: Stub, policy: str) -> model_config_pb2.ModelConfig:
    return (await inference.ModelConfig(inference_pb2.ModelConfigRequest(name=policy), timeout=SECONDS)).config


def row_shape(tensor: TensorMetadata) -> tuple[int, ...]:
    """Gives a tensor's shape without the batch axis."""
    return tuple(tensor.shape[1:])


def formats_of(metadata: Metadata) -> Formats:
    return [(tensor.name, np.dtype(DTYPES[tensor.datatype]), row_shape(tensor)) for tensor in metadata.inputs]


def request_of(metadata: Metadata, size: int = BATCH, variant: int = 0, **parameters: Parameter) -> InferRequest:
    return infer_request(metadata.name, dict(draw(formats_of(metadata), size, variant)), **parameters)


async def infer(inference: Stub, request: InferRequest) -> inference_pb2.ModelInferResponse:
    return await inference.ModelInfer(request, timeout=SECONDS)


async def code_of(inference: Stub, request: InferRequest, timeout: float = SECONDS) -> grpc.StatusCode:
    """Gives the status that a request ends with."""
    try:
        await inference.ModelInfer(request, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def assert_close(first: inference_pb2.ModelInferResponse, second: inference_pb2.ModelInferResponse) -> None:
    """Compares answers; batches of another size may differ in the last digits of a float."""
    one, other = outputs_of(first), outputs_of(second)
    assert list(one) == list(other)
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-4, atol=1e-5)


async def test_the_server_is_live_and_ready(inference: Stub) -> None:
    assert (await inference.ServerLive(inference_pb2.ServerLiveRequest(), timeout=SECONDS)).live
    assert (await inference.ServerReady(inference_pb2.ServerReadyRequest(), timeout=SECONDS)).ready


async def test_the_server_says_what_it_is(inference: Stub) -> None:
    answer = await inference.ServerMetadata(inference_pb2.ServerMetadataRequest(), timeout=SECONDS)
    assert answer.name
    assert answer.version
    assert {"model_configuration", "statistics"} <= set(answer.extensions)


async def test_a_model_is_ready_with_and_without_its_version(inference: Stub, metadata: Metadata) -> None:
    for version in ("", *metadata.versions):
        request = inference_pb2.ModelReadyRequest(name=metadata.name, version=version)
        assert (await inference.ModelReady(request, timeout=SECONDS)).ready


async def test_versions_are_digits(metadata: Metadata) -> None:
    assert metadata.versions
    assert all(re.fullmatch("[0-9]+", version) for version in metadata.versions)


async def test_tensors_have_names_and_known_datatypes(metadata: Metadata) -> None:
    for described in (metadata.inputs, metadata.outputs):
        assert described
        assert len({tensor.name for tensor in described}) == len(described)
        assert all(tensor.name and tensor.datatype in DTYPES for tensor in described)


async def test_shapes_begin_with_the_batch_axis(metadata: Metadata) -> None:
    for tensor in (*metadata.inputs, *metadata.outputs):
        assert tensor.shape[0] == -1
        assert all(length >= 0 for length in row_shape(tensor))


async def test_the_configuration_leaves_the_batch_axis_out(
    metadata: Metadata, config: model_config_pb2.ModelConfig
) -> None:
    assert config.name == metadata.name
    assert config.max_batch_size > 0
    described = [(tensor.name, tensor.datatype, row_shape(tensor)) for tensor in (*metadata.inputs, *metadata.outputs)]
    configured = [
        (entry.name, model_config_pb2.ModelDataType.Name(entry.data_type).rpartition("_")[2], tuple(entry.dims))
        for group in (config.input, config.output)
        for entry in group
    ]
    assert described == configured


async def test_a_request_gets_one_answer(config: model_config_pb2.ModelConfig) -> None:
    assert not config.model_transaction_policy.decoupled


async def test_an_answer_has_the_shapes_that_were_promised(inference: Stub, metadata: Metadata) -> None:
    promised = {tensor.name: tensor for tensor in metadata.outputs}
    answer = await infer(inference, request_of(metadata))
    assert answer.outputs
    for output in answer.outputs:
        assert output.datatype == promised[output.name].datatype
        assert tuple(output.shape) == (BATCH, *row_shape(promised[output.name]))


async def test_answers_are_raw(inference: Stub, metadata: Metadata) -> None:
    answer = await infer(inference, request_of(metadata))
    assert len(answer.raw_output_contents) == len(answer.outputs)
    for output, raw in zip(answer.outputs, answer.raw_output_contents, strict=True):
        assert not output.HasField("contents")
        assert len(raw) == np.prod(output.shape, dtype=int) * np.dtype(DTYPES[output.datatype]).itemsize


async def test_an_answer_echoes_the_id_and_names_model_and_version(inference: Stub, metadata: Metadata) -> None:
    for version in metadata.versions:
        request = request_of(metadata)
        request.id = "an id of the client's"
        request.model_version = version
        answer = await infer(inference, request)
        assert (answer.id, answer.model_name, answer.model_version) == (request.id, metadata.name, version)


async def test_inputs_may_come_in_any_order(inference: Stub, metadata: Metadata) -> None:
    request = request_of(metadata)
    turned = InferRequest(model_name=request.model_name)
    turned.inputs.extend(reversed(request.inputs))
    turned.raw_input_contents.extend(reversed(request.raw_input_contents))
    assert_close(await infer(inference, turned), await infer(inference, request))


async def test_typed_contents_are_as_good_as_raw_ones(inference: Stub, metadata: Metadata) -> None:
    request = request_of(metadata)
    if any(tensor.datatype not in CONTENTS for tensor in metadata.inputs):
        pytest.skip("FP16 has no typed contents")
    typed = InferRequest()
    typed.CopyFrom(request)
    del typed.raw_input_contents[:]
    for tensor, raw in zip(typed.inputs, request.raw_input_contents, strict=True):
        elements = np.frombuffer(raw, DTYPES[tensor.datatype]).tolist()
        getattr(tensor.contents, CONTENTS[tensor.datatype]).extend(elements)
    assert_close(await infer(inference, typed), await infer(inference, request))


async def test_outputs_come_as_they_were_asked_for(inference: Stub, metadata: Metadata) -> None:
    request = request_of(metadata)
    names = [tensor.name for tensor in reversed(metadata.outputs)]
    for name in names:
        request.outputs.add(name=name)
    answer = await infer(inference, request)
    assert [output.name for output in answer.outputs] == names


async def test_an_output_that_there_is_not_is_refused(inference: Stub, metadata: Metadata) -> None:
    request = request_of(metadata)
    request.outputs.add(name="no/such/output")
    assert await code_of(inference, request) == grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_parameters_are_tolerated(inference: Stub, metadata: Metadata) -> None:
    plain = request_of(metadata)
    request = request_of(metadata, nobody_knows=1, neither_this="text", nor_this=True, or_that=0.5)
    set_parameter(request.inputs[0].parameters["nobody_knows"], 1)
    assert_close(await infer(inference, request), await infer(inference, plain))


async def test_a_known_parameter_of_another_kind_is_refused(inference: Stub, metadata: Metadata) -> None:
    request = request_of(metadata, deterministic="a text")
    assert await code_of(inference, request) == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_seed_repeats_a_draw(inference: Stub, metadata: Metadata) -> None:
    request = request_of(metadata, deterministic=False, seed=7)
    if await code_of(inference, request) == grpc.StatusCode.FAILED_PRECONDITION:
        pytest.skip("the policy has no distribution to draw from")
    assert_close(await infer(inference, request), await infer(inference, request))


@pytest.mark.parametrize(("name", "version"), [("{}-that-nobody-has-deployed", ""), ("{}", "999999"), ("{}", "0")])
async def test_whom_nobody_knows_is_not_found(inference: Stub, metadata: Metadata, name: str, version: str) -> None:
    request = request_of(metadata)
    request.model_name, request.model_version = name.format(metadata.name), version
    assert await code_of(inference, request) == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "name", ["{}-that-nobody-has-deployed", "{}@no-such-alias", "a.b/c", " {} ", "größe", "a" * 300]
)
@pytest.mark.parametrize("version", ["", "0", "999999"])
async def test_what_is_not_there_is_not_ready(inference: Stub, policy: str, name: str, version: str) -> None:
    request = inference_pb2.ModelReadyRequest(name=name.format(policy), version=version if "@" not in name else "")
    assert not (await inference.ModelReady(request, timeout=SECONDS)).ready


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("", ""),
        ("", "1"),
        ("{}", "newest"),
        ("{}", "-1"),
        ("{}", "²"),
        ("{}:1", "1"),
        ("a" * 100_000, ""),
        ("{}", "1" * 5000),
    ],
)
async def test_what_can_be_no_model_is_refused(inference: Stub, policy: str, name: str, version: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await inference.ModelReady(inference_pb2.ModelReadyRequest(name=name.format(policy), version=version))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_methods_agree_on_whom_nobody_knows(inference: Stub) -> None:
    name = "nobody-has-deployed-this"
    calls: list[Any] = [
        (inference.ModelMetadata, inference_pb2.ModelMetadataRequest(name=name)),
        (inference.ModelConfig, inference_pb2.ModelConfigRequest(name=name)),
        (inference.ModelStatistics, inference_pb2.ModelStatisticsRequest(name=name)),
    ]
    for method, request in calls:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await method(request, timeout=SECONDS)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND


def without_an_input(request: InferRequest) -> None:
    del request.inputs[0]
    del request.raw_input_contents[0]


def with_another_input(request: InferRequest) -> None:
    request.inputs.add(name="no/such/input", datatype="FP32", shape=[BATCH])
    request.raw_input_contents.append(bytes(4 * BATCH))


def with_an_input_twice(request: InferRequest) -> None:
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(request.raw_input_contents[0])


def with_another_datatype(request: InferRequest) -> None:
    request.inputs[0].datatype = "INT8" if request.inputs[0].datatype != "INT8" else "BOOL"


def with_texts(request: InferRequest) -> None:
    request.inputs[0].datatype = "BYTES"


def with_another_shape(request: InferRequest) -> None:
    shape = list(request.inputs[0].shape)
    request.inputs[0].shape[:] = [1, *shape]


def with_a_negative_length(request: InferRequest) -> None:
    request.inputs[0].shape[0] = -1


def with_an_empty_batch(request: InferRequest) -> None:
    request.inputs[0].shape[0] = 0
    request.raw_input_contents[0] = b""


def with_a_byte_less(request: InferRequest) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][:-1]


def with_contents_too(request: InferRequest) -> None:
    request.inputs[0].contents.fp32_contents.append(1.0)


def with_a_blob_too_many(request: InferRequest) -> None:
    request.raw_input_contents.append(b"")


def with_no_contents(request: InferRequest) -> None:
    del request.raw_input_contents[:]


@pytest.mark.parametrize(
    "change",
    [
        without_an_input,
        with_another_input,
        with_an_input_twice,
        with_another_datatype,
        with_texts,
        with_another_shape,
        with_a_negative_length,
        with_an_empty_batch,
        with_a_byte_less,
        with_contents_too,
        with_a_blob_too_many,
        with_no_contents,
    ],
)
async def test_inputs_that_do_not_fit_are_refused(
    inference: Stub, metadata: Metadata, change: Callable[[InferRequest], None]
) -> None:
    request = request_of(metadata)
    change(request)
    assert await code_of(inference, request) == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_deadline_that_passes_ends_a_call(inference: Stub, metadata: Metadata) -> None:
    request = request_of(metadata, many(formats_of(metadata)))
    assert await code_of(inference, request, timeout=0.001) == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_answers_in_order(inference: Stub, metadata: Metadata) -> None:
    call = inference.ModelStreamInfer(timeout=SECONDS)
    requests = [request_of(metadata, size=1 + number % 4, variant=number % 3) for number in range(50)]
    for number, request in enumerate(requests):
        request.id = str(number)
        await call.write(request)
    await call.done_writing()
    answers = [answer async for answer in call]
    assert [answer.infer_response.id for answer in answers] == [request.id for request in requests]
    assert not any(answer.error_message for answer in answers)
    for number in (0, 17, 49):
        assert_close(answers[number].infer_response, await infer(inference, requests[number]))
    assert await call.code() == grpc.StatusCode.OK


async def test_a_stream_goes_on_after_an_error(inference: Stub, metadata: Metadata) -> None:
    call = inference.ModelStreamInfer(timeout=SECONDS)
    wrong = request_of(metadata)
    wrong.model_version = "999999"
    for request in (request_of(metadata), wrong, request_of(metadata)):
        await call.write(request)
    await call.done_writing()
    assert [bool(answer.error_message) async for answer in call] == [False, True, False]
    assert await call.code() == grpc.StatusCode.OK


async def counted(inference: Stub, model: str) -> list[inference_pb2.ModelStatistics]:
    request = inference_pb2.ModelStatisticsRequest(name=model)
    return list((await inference.ModelStatistics(request, timeout=SECONDS)).model_stats)


async def test_statistics_grow_by_what_was_asked(inference: Stub, metadata: Metadata) -> None:
    before = await counted(inference, metadata.name)
    for _ in range(3):
        await infer(inference, request_of(metadata))
    after = await counted(inference, metadata.name)
    assert {entry.name for entry in after} == {metadata.name}

    def grown(total: Callable[[inference_pb2.ModelStatistics], int]) -> int:
        return sum(map(total, after)) - sum(map(total, before))

    # At least, since others may ask meanwhile.
    assert grown(lambda entry: entry.inference_count) >= 3 * BATCH
    assert grown(lambda entry: entry.execution_count) >= 3
    assert grown(lambda entry: entry.inference_stats.success.count) >= 3
    assert grown(lambda entry: entry.inference_stats.queue.ns) > 0
    assert grown(lambda entry: entry.inference_stats.compute_infer.ns) > 0


async def test_batches_add_up_to_what_was_computed(inference: Stub, metadata: Metadata) -> None:
    await infer(inference, request_of(metadata))
    for entry in await counted(inference, metadata.name):
        sizes = [batch.batch_size for batch in entry.batch_stats]
        assert sizes == sorted(set(sizes))
        computed = [(batch.batch_size, batch.compute_infer.count) for batch in entry.batch_stats]
        assert sum(count for _, count in computed) == entry.execution_count
        assert sum(size * count for size, count in computed) == entry.inference_count
        stats = entry.inference_stats
        assert stats.success.ns >= stats.queue.ns
        assert stats.success.count == stats.queue.count == stats.compute_infer.count


async def test_the_repository_lists_the_model_as_ready(inference: Stub, metadata: Metadata) -> None:
    index = await inference.RepositoryIndex(inference_pb2.RepositoryIndexRequest(ready=True), timeout=SECONDS)
    listed = {entry.version for entry in index.models if entry.name == metadata.name}
    assert listed == set(metadata.versions)
    assert {entry.state for entry in index.models} == {"READY"}


@pytest.mark.parametrize("method", ["SystemSharedMemoryStatus", "TraceSetting", "LogSettings"])
async def test_other_methods_are_unimplemented(channel: grpc.aio.Channel, method: str) -> None:
    call: Any = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(b"", timeout=SECONDS)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_sequence_remembers_until_it_ends(inference: Stub, policy_with_memory: str) -> None:
    metadata = await describe(inference, policy_with_memory)

    async def step(sequence_id: int | str, **parameters: Parameter) -> inference_pb2.ModelInferResponse:
        return await infer(inference, request_of(metadata, 1, sequence_id=sequence_id, **parameters))

    by_number = [await step(7919, sequence_start=True), await step(7919), await step(7919, sequence_end=True)]
    by_text = [await step("compliance", sequence_start=True), await step("compliance"), await step("compliance")]
    for one, other in zip(by_number, by_text, strict=True):
        assert_close(one, other)
    # One that ended is as unknown as one that never began.
    ended = request_of(metadata, 1, sequence_id=7919)
    assert await code_of(inference, ended) == grpc.StatusCode.FAILED_PRECONDITION
    assert_close(await step("compliance", sequence_start=True), by_text[0])


async def test_without_a_sequence_every_request_begins_an_episode(inference: Stub, policy_with_memory: str) -> None:
    metadata = await describe(inference, policy_with_memory)
    first, second = [await infer(inference, request_of(metadata, 1)) for _ in range(2)]
    assert_close(first, second)


async def test_a_model_with_memory_says_so(inference: Stub, policy_with_memory: str) -> None:
    request = inference_pb2.ModelConfigRequest(name=policy_with_memory)
    config = (await inference.ModelConfig(request, timeout=SECONDS)).config
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"


async def test_both_apis_give_the_same_action(
    inference: Stub, metadata: Metadata, policies: policy_pb2_grpc.PolicyServiceAsyncStub
) -> None:
    request = request_of(metadata)
    act = policy_pb2.ActRequest(policy=metadata.name)
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        array = np.frombuffer(raw, DTYPES[tensor.datatype]).reshape(tensor.shape)
        act.observation[tensor.name].CopyFrom(tensors.encode(array))
    action = (await policies.Act(act, timeout=SECONDS)).action
    found = outputs_of(await infer(inference, request))
    assert found.keys() == action.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, np.asarray(tensors.decode(action[name])), rtol=1e-4, atol=1e-5)
