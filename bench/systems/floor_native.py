"""The other floor: the same inline server on our own gRPC layer. A gateway in Python has its limit here.

Run as a module, it is that server.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import uvloop

from bench.systems.floor import Floor, InlinePolicy, read_arguments
from services.common import rpc
from steersman.v1 import policy_pb2


class FloorNative(Floor):
    """The server."""

    name = "floor-native"
    module = "bench.systems.floor_native"


class _Stream(rpc.Receiver):
    """Answers each message of a stream as it comes.

    Args:
        policies: The policies by name.
        call: The call.
    """

    def __init__(self, policies: dict[str, InlinePolicy], call: rpc.Call) -> None:
        self._policies = policies
        self._call = call

    def message(self, message: bytes) -> None:
        request = policy_pb2.ActStreamRequest.FromString(message)
        response = self._policies[request.request.policy].answer(request.request)
        self._call.send(policy_pb2.ActStreamResponse(id=request.id, response=response).SerializeToString())

    def half_close(self) -> None:
        self._call.finish()


async def _serve(address: str, models: dict[str, Path]) -> None:
    policies = {policy: InlinePolicy(str(path)) for policy, path in models.items()}
    server = rpc.Server(rpc.Limits(max_receive_message_bytes=64 * 1024 * 1024))

    def act(request: policy_pb2.ActRequest, call: rpc.Call) -> None:
        call.finish(policies[request.policy].answer(request).SerializeToString())

    service = "/steersman.v1.PolicyService"
    server.methods.add_unary(f"{service}/Act", act, policy_pb2.ActRequest.FromString)
    server.methods.add_stream(f"{service}/ActStream", lambda call: _Stream(policies, call))
    server.add_insecure_port(address)
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(*read_arguments(__doc__)))
