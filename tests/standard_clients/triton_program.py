"""Uses every call of `tritonclient.grpc` that Steersman serves, and prints what came: `triton_program.py ADDRESS`.

Expects the policies `linear` (float32[4] to one of 7 actions) and `counting` (with memory: the sum so far).
"""

from __future__ import annotations

import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

ROWS = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


def observation(array: np.ndarray) -> list[triton.InferInput]:
    """Makes the inputs of a request."""
    tensor = triton.InferInput("observation", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    return [tensor]


def status(call: Any, *arguments: Any, **options: Any) -> str:  # noqa: ANN401 - any call of the client
    """Gives the status that a call fails with."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return str(error.status())
    return "OK"


def streamed(client: triton.InferenceServerClient) -> list[Any]:
    """Sends every row, and one request that fails, over a stream; gives the actions and the error in order."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put(error or int(result.as_numpy("action"))))
    for row in ROWS:
        client.async_stream_infer("linear", observation(row))
    client.async_stream_infer("nobody", observation(ROWS[0]))
    found = [answers.get(timeout=10) for _ in range(len(ROWS) + 1)]
    client.stop_stream()
    return [entry if isinstance(entry, int) else entry.message() for entry in found]


def main() -> None:
    """Prints one JSON object."""
    with triton.InferenceServerClient(sys.argv[1]) as client:
        metadata = client.get_model_metadata("linear", as_json=True)
        config = client.get_model_config("linear", as_json=True)["config"]
        extras = client.infer(
            "linear",
            observation(ROWS),
            outputs=[triton.InferRequestedOutput("log_probability"), triton.InferRequestedOutput("action")],
            parameters={"deterministic": False, "seed": 7, "unknown": "ignored"},
            priority=2,
            timeout=10_000_000,
        )
        one = np.ones((1, 1), np.float32)
        steps = [
            client.infer("counting", observation(one), sequence_id=5, sequence_start=step == 0, sequence_end=step == 2)
            for step in range(3)
        ]
        # One after the other without waiting, answered by callbacks in other threads.
        answers: queue.Queue[Any] = queue.Queue()
        client.async_infer("linear", observation(ROWS[:3]), lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=10)
        found = {
            "live": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("linear")],
            "ready": [
                client.is_model_ready(name, version)
                for name, version in (("linear", "1"), ("linear", "9"), ("nobody", ""), ("linear@nobody", ""))
            ],
            "server": client.get_server_metadata(as_json=True),
            "metadata": metadata,
            "config": config,
            "batch": client.infer("linear", observation(ROWS), request_id="7").as_numpy("action").tolist(),
            "single": [int(client.infer("linear", observation(row)).as_numpy("action")) for row in ROWS],
            "asynchronous": None if error else result.as_numpy("action").tolist(),
            "extras": sorted(output.name for output in extras.get_response().outputs),
            "log_probability": extras.as_numpy("log_probability").tolist(),
            "sequence": [step.as_numpy("action").item() for step in steps],
            "streamed": streamed(client),
            "statuses": {
                "shape": status(client.infer, "linear", observation(ROWS[:, :3])),
                "model": status(client.infer, "nobody", observation(ROWS)),
                "version": status(client.infer, "linear", observation(ROWS), model_version="9"),
                "deadline": status(client.infer, "slow", observation(ROWS), client_timeout=0.05),
                "trace": status(client.get_trace_settings),
                "load": status(client.load_model, "linear"),
                "no version": status(client.is_model_ready, "linear", "latest"),
                # 65 MiB, where 64 are taken; the client goes on after it.
                "too large": status(client.infer, "linear", observation(np.zeros((65 * 65536, 4), np.float32))),
                "after": status(client.infer, "linear", observation(ROWS)),
            },
            "statistics": client.get_inference_statistics("linear", as_json=True)["model_stats"],
            "index": client.get_model_repository_index(as_json=True)["models"],
        }
    print(json.dumps(found))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
