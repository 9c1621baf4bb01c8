"""The floor: a bare grpc.aio server on uvloop that decodes, runs onnxruntime inline and answers.

Nothing on grpc.aio can be leaner; `floor_native` is the same on our own gRPC layer.

Run as a module, it is that server.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import psutil
import uvloop

from bench.loads import Load
from bench.models import Models
from bench.systems.system import System, end, free_address, start_module, wait_until_listening
from steersman import spaces, tensors
from steersman.v1 import policy_pb2, policy_pb2_grpc


class InlinePolicy:
    """Decodes, computes and encodes, as every system but Steersman does it here.

    Args:
        model: The ONNX file.
    """

    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._dimensions = len(self._session.get_inputs()[0].shape)

    def answer(self, request: policy_pb2.ActRequest) -> policy_pb2.ActResponse:
        """Answers one request, of one observation or of a batch."""
        array = tensors.decode(request.observation[spaces.OBSERVATION])
        batched = array.ndim == self._dimensions
        (actions,) = self._session.run([spaces.ACTION], {spaces.OBSERVATION: array if batched else array[np.newaxis]})
        tensor = tensors.encode(actions if batched else np.asarray(actions[0]))
        return policy_pb2.ActResponse(action={spaces.ACTION: tensor}, version=1)


class Floor(System):
    """The bare server.

    Attributes:
        module: The server's module.
    """

    name = "floor"
    module = "bench.systems.floor"

    def __init__(self) -> None:
        self._process: Any = None

    def start(self, models: Models) -> None:
        """Starts the server."""
        self._address = free_address()
        files = [f"{policy}={bundle.model_path}" for policy, bundle in models.by_policy.items()]
        self._process = start_module(self.module, self._address, *files)
        wait_until_listening(self._address, self._process)

    def stop(self) -> None:
        """Stops it."""
        end(self._process)

    def target(self, load: Load) -> str | None:
        """Takes every load."""
        return self._address

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Is one process."""
        return {"server": [psutil.Process(self._process.pid)]}


class _Servicer(policy_pb2_grpc.PolicyServiceServicer):
    def __init__(self, policies: dict[str, InlinePolicy]) -> None:
        self._policies = policies

    async def Act(self, request: policy_pb2.ActRequest, context: object) -> policy_pb2.ActResponse:  # noqa: N802
        return self._policies[request.policy].answer(request)

    async def ActStream(  # noqa: N802
        self, request_iterator: AsyncIterator[policy_pb2.ActStreamRequest], context: object
    ) -> AsyncIterator[policy_pb2.ActStreamResponse]:
        async for message in request_iterator:
            response = self._policies[message.request.policy].answer(message.request)
            yield policy_pb2.ActStreamResponse(id=message.id, response=response)

    async def GetPolicy(self, request: object, context: object) -> policy_pb2.GetPolicyResponse:  # noqa: N802
        return policy_pb2.GetPolicyResponse()

    async def ListPolicies(self, request: object, context: object) -> policy_pb2.ListPoliciesResponse:  # noqa: N802
        return policy_pb2.ListPoliciesResponse()


async def _serve(address: str, models: dict[str, Path]) -> None:
    server = grpc.aio.server()
    policies = {policy: InlinePolicy(str(path)) for policy, path in models.items()}
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(_Servicer(policies), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def read_arguments(description: str | None) -> tuple[str, dict[str, Path]]:
    """Reads the address and the files of the models, by policy, from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("address")
    parser.add_argument("models", nargs="+", metavar="POLICY=FILE")
    arguments = parser.parse_args()
    pairs = [model.partition("=") for model in arguments.models]
    return arguments.address, {policy: Path(path) for policy, _, path in pairs}


if __name__ == "__main__":
    uvloop.run(_serve(*read_arguments(__doc__)))
