"""What Triton's Python back end runs: one batch through onnxruntime for all requests that it has gathered."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """The policy; Triton looks for a class of this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the model."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model = json.loads(args["model_config"])["parameters"]["model"]["string_value"]
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers requests, each with a batch of its own."""
        arrays = [triton.get_input_tensor_by_name(request, "observation").as_numpy() for request in requests]
        (actions,) = self._session.run(["action"], {"observation": np.concatenate(arrays)})
        ends = np.cumsum([len(array) for array in arrays])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor("action", part[:, np.newaxis])]) for part in np.split(actions, ends)
        ]
