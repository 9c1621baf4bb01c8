"""The Open Inference Protocol over real gRPC: a gateway process, and replicas attached to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman.aio import PolicyClient
from steersman.inference.v1 import inference_pb2, inference_pb2_grpc
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, policy_pb2, policy_pb2_grpc
from tests.bundles import write_counting_bundle
from tests.gateways import (
    GatewayProcess,
    attached_replica,
    describe,
    gateway_process,
    silent_replica,
    until_counted,
    until_waiting,
)
from tests.inference_stub import InferRequest, Parameter, infer_request, inference_stub, outputs_of
from tests.nested_bundle import Gripping, write_nested_bundle

pytestmark = pytest.mark.integration

Stub: TypeAlias = "inference_pb2_grpc.GRPCInferenceServiceAsyncStub"
Call: TypeAlias = "grpc.aio.StreamStreamCall[InferRequest, inference_pb2.ModelStreamInferResponse]"

BATCH = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
ONE = np.ones((1, 1), np.float32)


@contextlib.asynccontextmanager
async def stub_of(gateway: GatewayProcess) -> AsyncIterator[Stub]:
    async with grpc.aio.insecure_channel(gateway.address, options=[("grpc.enable_retries", 0)]) as channel:
        yield inference_stub(channel)


def ask(observation: np.ndarray, model: str = "linear", version: str = "", **parameters: Parameter) -> InferRequest:
    return infer_request(model, {"observation": observation}, version, **parameters)


def expected_actions(bundle: Bundle, batch: np.ndarray) -> np.ndarray:
    return PolicyRuntime(bundle).compute({"observation": batch})["action"]


async def answers(call: Call, count: int) -> list[inference_pb2.ModelStreamInferResponse]:
    """Reads so many answers from a stream."""
    read = []
    for _ in range(count):
        answer = await call.read()
        assert isinstance(answer, inference_pb2.ModelStreamInferResponse)
        read.append(answer)
    return read


async def test_it_answers_as_our_own_api_does(gateway: GatewayProcess, bundle: Bundle, other_bundle: Bundle) -> None:
    async with attached_replica(gateway, "linear", {1: bundle, 2: other_bundle}), stub_of(gateway) as stub:
        singles = await asyncio.gather(*(stub.ModelInfer(ask(row)) for row in BATCH))
        actions = [outputs_of(answer)["action"] for answer in singles]
        assert {action.shape for action in actions} == {()}
        np.testing.assert_array_equal(actions, expected_actions(other_bundle, BATCH))
        assert {(answer.model_name, answer.model_version) for answer in singles} == {("linear", "2")}

        batch = await stub.ModelInfer(ask(BATCH, version="1"))
        np.testing.assert_array_equal(outputs_of(batch)["action"], expected_actions(bundle, BATCH))
        assert batch.model_version == "1"
        assert not any(output.HasField("contents") for output in batch.outputs)


async def test_observations_with_parts_go_by_their_wire_names(gateway: GatewayProcess, tmp_path: Path) -> None:
    environment = Gripping()
    observation, _ = environment.reset(seed=3)
    inputs = {
        "previous_reward": np.zeros((), np.float32),
        "observation/action~1mask": observation["action/mask"],
        "observation/camera": observation["camera"],
        "observation/phase": np.asarray(observation["phase"], np.int64),
        "observation/position": observation["position"],
    }
    async with (
        attached_replica(gateway, "gripping", {1: write_nested_bundle(tmp_path)}),
        stub_of(gateway) as stub,
        PolicyClient("gripping", address=gateway.address) as client,
    ):
        found = outputs_of(await stub.ModelInfer(infer_request("gripping", inputs)))
        action = await client.act(observation, reward=0.0)
        two = infer_request("gripping", {name: np.stack([value] * 2) for name, value in inputs.items()})
        two.outputs.add(name="action/recalled")
        two.outputs.add(name="action/grip")
        chosen = await stub.ModelInfer(two)
        assert [(output.name, list(output.shape)) for output in chosen.outputs] == [
            ("action/recalled", [2]),
            ("action/grip", [2]),
        ]
        assert outputs_of(chosen)["action/grip"].tolist() == [action["grip"]] * 2
        described = await stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name="gripping"))
        assert {(entry.name, entry.datatype, *entry.shape) for entry in described.inputs} == {
            ("observation/action~1mask", "INT8", -1, 4),
            ("observation/camera", "UINT8", -1, 2, 3, 1),
            ("observation/phase", "INT64", -1),
            ("observation/position", "FP32", -1, 2),
            ("previous_reward", "FP32", -1),
        }
    assert found["action/grip"] == action["grip"]
    np.testing.assert_array_equal(found["action/moves/0"], action["moves"][0])
    np.testing.assert_array_equal(found["action/moves/1"], action["moves"][1])
    assert found["action/recalled"] == action["recalled"]


async def test_parameters_say_how_actions_are_chosen(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "linear", {1: bundle}), stub_of(gateway) as stub:

        async def draw(**parameters: Parameter) -> dict[str, np.ndarray]:
            request = ask(BATCH, deterministic=False, **parameters)
            for name in ("log_probability", "action"):
                request.outputs.add(name=name)
            return outputs_of(await stub.ModelInfer(request))

        first, again, other = await draw(seed=7), await draw(seed=7), await draw(seed=8)
        assert list(first) == ["log_probability", "action"]
        np.testing.assert_array_equal(first["action"], again["action"])
        assert (first["action"] != other["action"]).any()
        assert (first["action"] != expected_actions(bundle, BATCH)).any()
        greedy = await stub.ModelInfer(ask(BATCH, deterministic=True, seed=7, priority=2, nobody_knows_this=1.5))
        np.testing.assert_array_equal(outputs_of(greedy)["action"], expected_actions(bundle, BATCH))


async def test_a_sequence_is_a_session(gateway: GatewayProcess, tmp_path: Path) -> None:
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        stub_of(gateway) as stub,
    ):
        for sequence_id in ("of text", 42):

            async def step(sequence_id: str | int = sequence_id, **parameters: Parameter) -> float:
                answer = await stub.ModelInfer(ask(ONE, "counting", sequence_id=sequence_id, **parameters))
                return float(outputs_of(answer)["action"].item())

            counted = [await step(sequence_start=True, sequence_step=1)]
            counted += [await step(sequence_step=number) for number in (2, 2, 3, 3)]
            assert counted == [1, 2, 2, 3, 3], "a step that is sent again advances the episode once"
            assert [await step(sequence_start=True), await step(), await step(sequence_end=True)] == [1, 2, 3]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await step()
            assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        # Neither 0 nor an empty text is a sequence, so each request is an episode of its own.
        for nothing in (0, ""):
            answer = await stub.ModelInfer(ask(ONE, "counting", sequence_id=nothing))
            assert outputs_of(answer)["action"].item() == 1
        config = (await stub.ModelConfig(inference_pb2.ModelConfigRequest(name="counting"))).config
        assert config.WhichOneof("scheduling_choice") == "sequence_batching"


async def test_both_apis_share_batches(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with (
        silent_replica(gateway, "shared", bundle) as replica,
        stub_of(gateway) as stub,
        PolicyClient("shared", address=gateway.address) as client,
    ):
        alone = asyncio.ensure_future(client.act(BATCH[0]))
        held = await replica.next_batch()
        ours = asyncio.ensure_future(client.act(BATCH[1]))
        theirs = stub.ModelInfer(ask(BATCH[2], "shared"))
        await until_waiting(gateway, "shared", 2)
        replica.answer(held, PolicyRuntime(bundle))
        both = await replica.next_batch()
        assert list(both.inputs["observation"].shape) == [2, 4]
        replica.answer(both, PolicyRuntime(bundle))
        await asyncio.gather(alone, ours, theirs)


async def test_a_stream_answers_in_order_and_survives_errors(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "linear", {1: bundle}, max_batch_size=16), stub_of(gateway) as stub:
        call = stub.ModelStreamInfer()
        requests = [ask(row) for row in BATCH]
        requests[7] = ask(BATCH[7], "nobody")
        requests[8] = ask(BATCH[8][:2])
        for index, request in enumerate(requests):
            request.id = f"number {index}"

        async def send() -> None:
            for request in requests:
                await call.write(request)
            await call.done_writing()

        sending = asyncio.create_task(send())
        read = [answer async for answer in call]
        await sending
        assert await call.code() == grpc.StatusCode.OK
    assert [answer.infer_response.id for answer in read] == [request.id for request in requests]
    assert [bool(answer.error_message) for answer in read] == [index in (7, 8) for index in range(len(BATCH))]
    expected = expected_actions(bundle, BATCH)
    for index, answer in enumerate(read):
        if index not in (7, 8):
            assert outputs_of(answer.infer_response)["action"] == expected[index]
            assert answer.infer_response.parameters["triton_final_response"].bool_param


async def test_an_answer_waits_for_those_before_it(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with silent_replica(gateway, "ordered", bundle, max_batch_size=1) as replica, stub_of(gateway) as stub:
        call = stub.ModelStreamInfer()
        await call.write(ask(BATCH[0], "ordered"))
        batch = await replica.next_batch()
        await call.write(ask(BATCH[1], "nobody"))
        await call.done_writing()
        # The second has failed long before the first is answered; the gateway has read it once it waits for neither.
        refused = asyncio.ensure_future(answers(call, 2))
        await asyncio.gather(*(stub.ServerLive(inference_pb2.ServerLiveRequest()) for _ in range(10)))
        assert not refused.done()
        replica.answer(batch, PolicyRuntime(bundle))
        assert [bool(answer.error_message) for answer in await refused] == [False, True]


async def test_who_goes_away_is_not_computed_for(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with silent_replica(gateway, "left", bundle, max_batch_size=1) as replica, stub_of(gateway) as stub:
        unary = stub.ModelInfer(ask(BATCH[0], "left"))
        await replica.next_batch()
        unary.cancel()
        await until_counted(gateway, "left", lambda counted: counted.cancelled == 1)
        stream = stub.ModelStreamInfer()
        for row in BATCH[:2]:
            await stream.write(ask(row, "left"))
        await until_waiting(gateway, "left", 2)
        stream.cancel()
        await until_counted(gateway, "left", lambda counted: counted.cancelled == 3)


@pytest.mark.parametrize("limits", [{"timeout": 0.05}, {"parameter": 50_000}])
async def test_deadlines_are_grpcs_or_the_parameters(
    gateway: GatewayProcess, bundle: Bundle, limits: dict[str, Any]
) -> None:
    async with silent_replica(gateway, "late", bundle, max_batch_size=1) as replica, stub_of(gateway) as stub:
        first = stub.ModelInfer(ask(BATCH[0], "late"))
        await replica.next_batch()
        parameters: dict[str, Any] = {"timeout": limits["parameter"]} if "parameter" in limits else {}
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stub.ModelInfer(ask(BATCH[1], "late", **parameters), timeout=limits.get("timeout", 20.0))
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        first.cancel()


@pytest.fixture
def small_gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path / "gateway", queue_observations=1, ray_dashboard_url="") as process:
        yield process


async def test_a_full_queue_sheds_and_who_stops_drains(small_gateway: GatewayProcess, bundle: Bundle) -> None:
    gateway = small_gateway
    async with (
        silent_replica(gateway, "busy", bundle, max_batch_size=1) as replica,
        stub_of(gateway) as stub,
        grpc.aio.insecure_channel(gateway.address) as health_channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(health_channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stream = stub.ModelStreamInfer()
        await stream.write(ask(BATCH[0], "busy"))
        batch = await replica.next_batch()
        waiting = stub.ModelInfer(ask(BATCH[1], "busy"))
        await until_waiting(gateway, "busy", 1)
        with pytest.raises(grpc.aio.AioRpcError) as shed:
            await stub.ModelInfer(ask(BATCH[2], "busy"))
        assert shed.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

        gateway.process.terminate()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ModelInfer(ask(BATCH[2], "busy"))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        replica.answer(batch, PolicyRuntime(bundle))
        replica.answer(await replica.next_batch(), PolicyRuntime(bundle))
        assert (await waiting).model_name == "busy"
        (answer,) = await answers(stream, 1)
        assert not answer.error_message
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        watch.cancel()


async def test_statistics_are_of_everybodys_requests(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with (
        silent_replica(gateway, "counted", bundle, max_batch_size=4) as replica,
        stub_of(gateway) as stub,
        PolicyClient("counted", address=gateway.address) as client,
    ):
        ours = asyncio.ensure_future(client.act(BATCH[:3]))
        theirs = stub.ModelInfer(ask(BATCH[:6], "counted"))
        answered = 0
        while answered < 9:
            batch = await replica.next_batch()
            answered += batch.inputs["observation"].shape[0]
            replica.answer(batch, PolicyRuntime(bundle))
        await asyncio.gather(ours, theirs)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelInfer(ask(BATCH[0], "counted"), timeout=0.5)
        await until_counted(gateway, "counted", lambda counted: counted.expired == 1)
        request = inference_pb2.ModelStatisticsRequest(name="counted", version="1")
        (counted,) = (await stub.ModelStatistics(request)).model_stats
        (among_all,) = [
            entry
            for entry in (await stub.ModelStatistics(inference_pb2.ModelStatisticsRequest())).model_stats
            if entry.name == "counted"
        ]
        batches = (await describe(gateway, "counted")).statistics.batches - 1  # the last one was not answered
    assert (counted.name, counted.version) == ("counted", "1")
    assert among_all.inference_count == counted.inference_count == 9
    assert counted.execution_count == batches == sum(entry.compute_infer.count for entry in counted.batch_stats)
    assert sum(entry.batch_size * entry.compute_infer.count for entry in counted.batch_stats) == 9
    # Tests' replica says that each batch took a microsecond.
    assert sum(entry.compute_infer.ns for entry in counted.batch_stats) == batches * 1000
    stats = counted.inference_stats
    assert (stats.success.count, stats.queue.count, stats.compute_infer.count, stats.fail.count) == (2, 2, 2, 1)
    assert 0 < stats.queue.ns < stats.success.ns
    assert stats.fail.ns > 40e6
    assert counted.last_inference > 1.7e12


async def test_what_was_counted_stays_when_the_last_replica_goes(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with stub_of(gateway) as stub:
        async with attached_replica(gateway, "gone", {1: bundle}):
            await stub.ModelInfer(ask(BATCH[0], "gone"))
        async with asyncio.timeout(20):
            while True:
                if not (await stub.ModelReady(inference_pb2.ModelReadyRequest(name="gone"))).ready:
                    break
                await asyncio.sleep(0.01)
        for version in ("", "1"):
            request = inference_pb2.ModelStatisticsRequest(name="gone", version=version)
            counted = (await stub.ModelStatistics(request)).model_stats
            assert [(entry.version, entry.inference_count) for entry in counted] == [("1", 1)]


async def test_the_index_lists_what_is_loaded(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "indexed", {3: bundle, 12: bundle}), stub_of(gateway) as stub:
        index = await stub.RepositoryIndex(inference_pb2.RepositoryIndexRequest(ready=True))
        listed = [(entry.version, entry.state) for entry in index.models if entry.name == "indexed"]
        assert listed == [("3", "READY"), ("12", "READY")]
        metadata = await stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name="indexed"))
        assert list(metadata.versions) == ["3", "12"]
        pinned = await stub.ModelMetadata(inference_pb2.ModelMetadataRequest(name="indexed", version="3"))
        assert list(pinned.versions) == ["3"]
        assert (await stub.ModelReady(inference_pb2.ModelReadyRequest(name="indexed", version="12"))).ready
        assert not (await stub.ModelReady(inference_pb2.ModelReadyRequest(name="indexed", version="4"))).ready


async def test_reflection_lists_only_what_can_be_looked_up(gateway: GatewayProcess) -> None:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        make_stub: Any = reflection_pb2_grpc.ServerReflectionStub
        reflection = make_stub(channel)

        async def look_up(request: reflection_pb2.ServerReflectionRequest) -> Any:  # noqa: ANN401 - a response
            return await reflection.ServerReflectionInfo(iter([request])).read()

        services = await look_up(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = [service.name for service in services.list_services_response.service]
        assert "steersman.v1.PolicyService" in listed
        for name in listed:
            found = await look_up(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
            assert found.HasField("file_descriptor_response"), name


async def test_a_question_starts_no_replica_of_a_policy_that_has_none(tmp_path: Path, bundle: Bundle) -> None:
    # Ray is away here, so nobody starts one; but whoever asks for an action waits for it.
    with gateway_process(tmp_path / "gateway") as gateway:
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            deployments = deployment_pb2_grpc.DeploymentServiceStub(channel)
            stub, policies = inference_stub(channel), policy_pb2_grpc.PolicyServiceStub(channel)

            async def waiting() -> int:
                request = deployment_pb2.ListDeploymentsRequest()
                (idle,) = (await deployments.ListDeployments(request, timeout=20)).deployments
                return idle.requests_waiting

            async def until_waiting_are(count: int) -> None:
                async with asyncio.timeout(20):
                    while True:
                        if await waiting() == count:
                            return
                        await asyncio.sleep(0.02)

            request = deployment_pb2.DeployRequest(policy="idle", version=1, bundle_uri=str(bundle.folder))
            await deployments.Deploy(request, timeout=20)
            act = policies.Act(policy_pb2.ActRequest(policy="idle"), timeout=20)
            await until_waiting_are(1)
            act.cancel()
            await until_waiting_are(0)
            for version in ("", "1", "2"):
                ready = inference_pb2.ModelReadyRequest(name="idle", version=version)
                assert not (await stub.ModelReady(ready, timeout=5)).ready
                counts = inference_pb2.ModelStatisticsRequest(name="idle", version=version)
                assert not (await stub.ModelStatistics(counts, timeout=5)).model_stats
                assert await waiting() == 0
