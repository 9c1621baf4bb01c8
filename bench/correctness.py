"""Whether a system answers rightly: a quick wrong answer is worth nothing, so this comes before every measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import grpc
import httpx

from bench.loads import Load
from bench.models import Models
from bench.systems.floor import InlinePolicy
from steersman.v1 import policy_pb2, policy_pb2_grpc

_Answer = TypeVar("_Answer")
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.1


def wait_for_right_answer(target: str, load: Load, models: Models) -> None:
    """Waits until a target answers the request of a load, and checks what it says.

    Args:
        target: `host:port` of a gRPC server, or an HTTP URL.
        load: The load.
        models: What it serves.

    Raises:
        RuntimeError: If it does not answer in time, or with another action than the model's.
    """
    if target.startswith("http"):
        # Its weights are its own, in torch; so any action of CartPole is right.
        action = _until_answered(lambda: _ask_http(target), target)
        if action not in (0, 1):
            raise RuntimeError(f"expected {target} to answer with action 0 or 1, got {action!r}")
        return
    request = load.request()
    expected = InlinePolicy(str(models.by_policy[load.policy].model_path)).answer(request)
    answer = _until_answered(lambda: _ask(target, load, request), target)
    if answer.action != expected.action:
        raise RuntimeError(f"expected {target} to answer {load.name} with {expected.action}, got {answer.action}")


def _ask(target: str, load: Load, request: policy_pb2.ActRequest) -> policy_pb2.ActResponse:
    metadata = (("application", load.policy),)
    with grpc.insecure_channel(target) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        if load.kind != "stream":
            return stub.Act(request, metadata=metadata, timeout=5)
        messages = iter([policy_pb2.ActStreamRequest(id=1, request=request)])
        (answer,) = stub.ActStream(messages, metadata=metadata, timeout=5)
        return answer.response


def _ask_http(url: str) -> object:
    answer = httpx.post(url, json={"array": [0.0, 0.0, 0.0, 0.0]}, timeout=5)
    answer.raise_for_status()
    return answer.json()["action"]


def _until_answered(ask: Callable[[], _Answer], target: str) -> _Answer:
    """Asks again and again: a server may listen before what is behind it is there."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return ask()
        except (grpc.RpcError, httpx.HTTPError, ValueError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"expected {target} to answer within {_PATIENCE_SECONDS:g} s, got {error}"
                ) from error
            time.sleep(_POLL_SECONDS)
