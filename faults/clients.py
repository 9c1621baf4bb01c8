"""The clients of the load, one kind for each protocol, each with the retries that a client of that protocol has."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from faults.infer_stream import InferStream
from faults.models import QUESTIONS
from steersman import spaces
from steersman.aio import DEFAULT_TIMEOUT_SECONDS, PolicyClient, RetryPolicy
from steersman.errors import InternalError, from_rpc_error
from steersman.inference.v1 import inference_pb2

Ask = Callable[[], Awaitable[None]]
"""Makes one request; raises a `SteersmanError` if it gets no action."""

_SERVICE = "inference.GRPCInferenceService"
_RETRY = RetryPolicy()
_RETRYING = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE, "method": "ModelInfer"}],
            "retryPolicy": {
                "maxAttempts": _RETRY.max_attempts,
                "initialBackoff": f"{_RETRY.initial_backoff}s",
                "maxBackoff": f"{_RETRY.max_backoff}s",
                "backoffMultiplier": _RETRY.backoff_multiplier,
                # CANCELLED is what gRPC makes of a call that reaches a server in the moment in which that stops.
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ]
}
"""What any client of gRPC takes, `tritonclient` as one of its `channel_args`."""


@dataclass(frozen=True)
class Target:
    """Who is asked.

    Attributes:
        address: The gateway.
        policy: The policy.
        timeout: Seconds that a request may take.
    """

    address: str
    policy: str
    timeout: float = DEFAULT_TIMEOUT_SECONDS


@contextlib.asynccontextmanager
async def unary(target: Target) -> AsyncIterator[Ask]:
    """Asks through the SDK, a call for each request."""
    async with PolicyClient(target.policy, address=target.address, timeout=target.timeout) as client:
        await client.describe()

        async def ask() -> None:
            observation, right = _question()
            _check(await client.act(observation), right)

        yield ask


@contextlib.asynccontextmanager
async def stream(target: Target) -> AsyncIterator[Ask]:
    """Asks through the SDK, over one stream."""
    async with PolicyClient(target.policy, address=target.address, timeout=target.timeout) as client:
        await client.describe()
        async with client.stream() as opened:

            async def ask() -> None:
                observation, right = _question()
                _check(await opened.act(observation), right)

            yield ask


@contextlib.asynccontextmanager
async def infer(target: Target) -> AsyncIterator[Ask]:
    """Asks over the Open Inference Protocol, a call for each request, which gRPC repeats."""
    async with _channel(target, retrying=True) as channel:
        yield _infer(channel, target)


@contextlib.asynccontextmanager
async def infer_once(target: Target) -> AsyncIterator[Ask]:
    """Asks over the Open Inference Protocol as a client does that nobody has told to repeat anything."""
    async with _channel(target, retrying=False) as channel:
        yield _infer(channel, target)


@contextlib.asynccontextmanager
async def infer_stream(target: Target) -> AsyncIterator[Ask]:
    """Asks over the Open Inference Protocol, over one stream."""
    async with _channel(target, retrying=False) as channel:
        method: Any = channel.stream_stream(f"/{_SERVICE}/ModelStreamInfer")
        async with InferStream(method) as opened:

            async def ask() -> None:
                observation, right = _question()
                _check(_action(await opened.ask(_infer_request(target, observation), target.timeout)), right)

            yield ask


def _infer(channel: grpc.aio.Channel, target: Target) -> Ask:
    method: Any = channel.unary_unary(
        f"/{_SERVICE}/ModelInfer",
        request_serializer=inference_pb2.ModelInferRequest.SerializeToString,
        response_deserializer=inference_pb2.ModelInferResponse.FromString,
    )

    async def ask() -> None:
        observation, right = _question()
        try:
            response = await method(_infer_request(target, observation), timeout=target.timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        _check(_action(response), right)

    return ask


def _infer_request(target: Target, observation: npt.NDArray[np.float32]) -> inference_pb2.ModelInferRequest:
    request = inference_pb2.ModelInferRequest(model_name=target.policy, raw_input_contents=[observation.tobytes()])
    request.inputs.add(name=spaces.OBSERVATION, datatype="FP32", shape=observation.shape)
    request.parameters["timeout"].int64_param = int(target.timeout * 1e6)
    return request


def _action(response: inference_pb2.ModelInferResponse) -> int:
    (data,) = response.raw_output_contents
    (action,) = np.frombuffer(data, np.int64)
    return int(action)


def _question() -> tuple[npt.NDArray[np.float32], int]:
    return random.choice(QUESTIONS)  # noqa: S311 - no secret


def _check(action: object, right: int) -> None:
    """Sees to it that a wrong answer does not pass for one."""
    if action != right:
        raise InternalError(f"expected action {right}, got {action!r}")


def _channel(target: Target, *, retrying: bool) -> grpc.aio.Channel:
    """Opens a channel as those do who know nothing of Steersman but its address."""
    options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    if retrying:
        options.append(("grpc.service_config", json.dumps(_RETRYING)))
    return grpc.aio.insecure_channel(target.address, options=options)
