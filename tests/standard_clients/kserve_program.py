"""Uses KServe's gRPC client, and prints what came: `kserve_program.py ADDRESS`. Policies as `triton_program`."""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

ROWS = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


def raw(array: np.ndarray, model: str = "linear") -> InferRequest:
    """Makes a request with raw contents."""
    tensor = InferInput("observation", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=True)
    return InferRequest(model, [tensor], request_id="7")


def typed(array: np.ndarray) -> InferRequest:
    """Makes a request with typed contents."""
    tensor = InferInput("observation", list(array.shape), "FP32", data=array.reshape(-1).tolist())
    return InferRequest("linear", [tensor])


async def main() -> None:
    """Prints one JSON object."""
    async with InferenceGRPCClient(sys.argv[1], retries=0) as client:
        answer = await client.infer(raw(ROWS))
        try:
            await client.infer(raw(ROWS, "nobody"))
            refused = "OK"
        except grpc.RpcError as error:
            refused = error.code().name
        found = {
            "live": [
                await client.is_server_live(),
                await client.is_server_ready(),
                await client.is_model_ready("linear"),
            ],
            "unknown": await client.is_model_ready("nobody"),
            "raw": answer.outputs[0].as_numpy().tolist(),
            "typed": (await client.infer(typed(ROWS))).outputs[0].as_numpy().tolist(),
            "answer": [answer.model_name, answer.model_version, answer.id, len(answer.outputs)],
            "refused": refused,
        }
    print(json.dumps(found))  # noqa: T201 - the result


if __name__ == "__main__":
    asyncio.run(main())
