"""Uses `tritonclient.grpc.aio`, and prints what came: `triton_aio_program.py ADDRESS`. Policies as `triton_program`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import aio

ROWS = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


def observation(array: np.ndarray) -> list[triton.InferInput]:
    """Makes the inputs of a request."""
    tensor = triton.InferInput("observation", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return [tensor]


async def requests() -> AsyncIterator[dict[str, Any]]:
    """Gives a request for each row."""
    for index, row in enumerate(ROWS):
        yield {"model_name": "linear", "inputs": observation(row), "request_id": str(index)}


async def main() -> None:
    """Prints one JSON object."""
    async with aio.InferenceServerClient(sys.argv[1]) as client:
        singles = await asyncio.gather(*(client.infer("linear", observation(row)) for row in ROWS))
        streamed = [answer async for answer in client.stream_infer(requests())]
        found = {
            "live": [
                await client.is_server_live(),
                await client.is_server_ready(),
                await client.is_model_ready("linear", "1"),
            ],
            "single": [int(answer.as_numpy("action")) for answer in singles],
            "streamed": [int(result.as_numpy("action")) for result, error in streamed if error is None],
            "ids": [result.get_response().id for result, error in streamed if error is None],
            "metadata": await client.get_model_metadata("linear", as_json=True),
        }
    print(json.dumps(found))  # noqa: T201 - the result


if __name__ == "__main__":
    asyncio.run(main())
