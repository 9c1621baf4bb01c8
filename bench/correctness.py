"""Whether a system answers rightly: a quick wrong answer is worth nothing, so this comes before every measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
import httpx

from bench.loads import Load
from bench.models import Models
from bench.protocols import STEERSMAN, Protocol
from bench.systems.floor import InlinePolicy
from steersman.client import ConnectionOptions, open_channel

_Answer = TypeVar("_Answer")
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.1


def wait_for_right_answer(target: str, load: Load, models: Models, protocol: Protocol = STEERSMAN) -> None:
    """Waits until a target answers the request of a load, and checks what it says.

    Args:
        target: `host:port` of a gRPC server, or an HTTP URL.
        load: The load.
        models: What it serves.
        protocol: What a gRPC server is spoken to in.

    Raises:
        RuntimeError: If it does not answer in time, or with another action than the model's.
    """
    if target.startswith("http"):
        # Its weights are its own, in torch; so any action of CartPole is right.
        action = _until_answered(lambda: _ask_http(target), target)
        if action not in (0, 1):
            raise RuntimeError(f"expected {target} to answer with action 0 or 1, got {action!r}")
        return
    answer = InlinePolicy(str(models.by_policy[load.policy].model_path)).answer(load.request())
    expected = {name: tensor.data for name, tensor in answer.action.items()}
    action = _until_answered(lambda: _ask(target, load, protocol), target)
    if action != expected:
        raise RuntimeError(f"expected {target} to answer {load.name} with {expected}, got {action}")


def _ask(target: str, load: Load, protocol: Protocol) -> dict[str, bytes]:
    metadata = (("application", load.policy),)
    with open_channel(ConnectionOptions((target,))) as channel:
        if load.kind != "stream":
            unary: Any = channel.unary_unary(protocol.unary_method)
            return protocol.action(unary(protocol.request(load), metadata=metadata, timeout=5))
        stream: Any = channel.stream_stream(protocol.stream_method)
        (answer,) = stream(iter([protocol.message(load, 1)]), metadata=metadata, timeout=5)
        return protocol.message_action(answer)


def _ask_http(url: str) -> object:
    answer = httpx.post(url, json={"array": [0.0, 0.0, 0.0, 0.0]}, timeout=5, trust_env=False)
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
