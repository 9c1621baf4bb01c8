"""Whatever a client asks of any service, it is told what is wrong with it, and never that the service failed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from deploy.free_ports import free_ports
from services.common.server import Service
from services.evaluator.api.requests import Defaults
from services.evaluator.api.service import EvaluatorService
from services.trainer.__main__ import ENVIRONMENT
from services.trainer.api.service import TrainerServicer
from services.trainer.cluster.ray_jobs import RayJobs
from services.trainer.records.tracking import Tracking
from steersman import tensors
from steersman.inference.v1 import inference_pb2
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, evaluator_pb2, policy_pb2, trainer_pb2
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, gateway_process, replica_process, until_replicas
from tests.inference_stub import infer_request
from tests.odd_messages import messages, request_class
from tests.servers import served

pytestmark = pytest.mark.integration

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate)
)
FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
SECONDS = 2.0

POLICIES, DEPLOYMENTS, INFERENCES, EVALUATIONS, RUNS = (
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (policy_pb2, "PolicyService"),
        (deployment_pb2, "DeploymentService"),
        (inference_pb2, "GRPCInferenceService"),
        (evaluator_pb2, "EvaluatorService"),
        (trainer_pb2, "TrainerService"),
    )
)
KNOWN = {
    "policy": st.sampled_from(["target", "target:1", "target@champion"]),
    "name": st.sampled_from(["target", "observation", "action"]),
    "model_name": st.just("target"),
    "version": st.sampled_from(["1", "2"]),
    "environment_id": st.just("CartPole-v1"),
    "id": st.sampled_from(["CartPole-v1", "0" * 32]),
    "algorithm": st.sampled_from(["PPO", "DQN", "BC"]),
    "datatype": st.just("FP32"),
    "key": st.sampled_from(["version", "bundle_uri", "seed", "sequence_id", "lr"]),
    "alias": st.just("champion"),
}
"""What gets some requests past the first check."""

_TENSOR = tensors.encode(np.ones(4, np.float32))
SENSIBLE: dict[str, Message] = {
    "Act": policy_pb2.ActRequest(policy="target", observation={"observation": _TENSOR}),
    "ModelInfer": infer_request("target", {"observation": np.ones(4, np.float32)}),
    "Deploy": deployment_pb2.DeployRequest(policy="target", version=1, bundle_uri="/nowhere"),
    "SetRoute": deployment_pb2.SetRouteRequest(policy="target"),
    "Evaluate": evaluator_pb2.EvaluateRequest(policy="target", episodes=1, num_environments=1),
    "Compare": evaluator_pb2.CompareRequest(policy="target", baseline="target:1", episodes=2, num_environments=1),
    "StartRun": trainer_pb2.StartRunRequest(
        spec=trainer_pb2.RunSpec(
            policy="target",
            environment=trainer_pb2.Environment(id="CartPole-v1"),
            algorithm="PPO",
            stop=trainer_pb2.StopCriteria(iterations=1),
        )
    ),
}
"""Requests that make sense, by method: what is changed of them gets further than what is drawn altogether."""


def methods(service: Any) -> list[Any]:  # noqa: ANN401 - a descriptor
    """Gives the methods that take one request, for pytest to name."""
    return [pytest.param(method, id=method.name) for method in service.methods if not method.client_streaming]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with (
        gateway_process(folder) as process,
        replica_process("target", write_linear_bundle(folder / "bundle"), process),
    ):
        asyncio.run(until_replicas(process, "target", 1))
        yield process


@pytest.fixture(scope="module")
def gateway_channel(gateway: GatewayProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(gateway.address, options=[("grpc.enable_retries", 0)]) as channel:
        yield channel


@pytest.fixture(scope="module")
def evaluator_channel(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    servicer = EvaluatorService(Defaults(gateway.address, code_folder=tmp_path_factory.mktemp("code")))
    with served(Service(EVALUATIONS, servicer)) as address, grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(scope="module")
def trainer_channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """A trainer whose MLflow and Ray are away: this is about what it checks before it asks them."""
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    var_dir = tmp_path_factory.mktemp("trainer")
    token = var_dir / "token"
    token.write_text("none")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ENVIRONMENT | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}).items():
            patch.setenv(name, value)
        chosen = Settings(mlflow_url=nobody, ray_dashboard_url=nobody, var_dir=var_dir)
        servicer = TrainerServicer(chosen, Tracking(nobody), RayJobs(nobody, token))
        with served(Service(RUNS, servicer)) as address, grpc.insecure_channel(address) as channel:
            yield channel


def draw(data: st.DataObject, method: MethodDescriptor) -> Message:
    """Draws a request: altogether, or what is changed of one that makes sense; never one that is for Ray."""
    kind, like = request_class(method), SENSIBLE.get(method.name)
    begin_with = like if like is not None and data.draw(st.booleans()) else None
    return data.draw(messages(kind, begin_with, {"on_cluster"}, **KNOWN))


def check(channel: grpc.Channel, method: MethodDescriptor, request: Any, service: str = "") -> None:  # noqa: ANN401
    """Sends a request, and wants an answer or a status that is none of the service's faults."""
    assert method.containing_service is not None
    path = f"/{service or method.containing_service.full_name}/{method.name}"
    make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    call = make(path, request_serializer=lambda message: message.SerializeToString())
    code: grpc.StatusCode | None = None
    details: str | None = "an answer"
    try:
        answers = call(request, timeout=SECONDS)
        if method.server_streaming:
            next(answers, None)
            answers.cancel()
    except grpc.RpcError as error:
        code, details = error.code(), error.details()
    assert code not in FAULTS, details
    assert details


@pytest.mark.parametrize("method", methods(POLICIES))
@given(data=st.data())
@EXAMPLES
def test_policy_service(gateway_channel: grpc.Channel, method: MethodDescriptor, data: st.DataObject) -> None:
    check(gateway_channel, method, draw(data, method))


@pytest.mark.parametrize("method", methods(INFERENCES))
@given(data=st.data())
@EXAMPLES
def test_inference_service(gateway_channel: grpc.Channel, method: MethodDescriptor, data: st.DataObject) -> None:
    check(gateway_channel, method, draw(data, method), "inference.GRPCInferenceService")


@pytest.mark.parametrize("method", methods(DEPLOYMENTS))
@given(data=st.data())
@EXAMPLES
def test_deployment_service(gateway_channel: grpc.Channel, method: MethodDescriptor, data: st.DataObject) -> None:
    check(gateway_channel, method, draw(data, method))


@pytest.mark.parametrize("method", methods(EVALUATIONS))
@given(data=st.data())
@EXAMPLES
def test_evaluator_service(evaluator_channel: grpc.Channel, method: MethodDescriptor, data: st.DataObject) -> None:
    check(evaluator_channel, method, draw(data, method))


@pytest.mark.parametrize("method", methods(RUNS))
@given(data=st.data())
@EXAMPLES
def test_trainer_service(trainer_channel: grpc.Channel, method: MethodDescriptor, data: st.DataObject) -> None:
    check(trainer_channel, method, draw(data, method))
