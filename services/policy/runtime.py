"""Runs a bundle's model with onnxruntime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime

from services.common.bundle import Bundle
from steersman import tensors
from steersman.errors import InvalidArgumentError

Tensors = dict[str, npt.NDArray[np.generic]]
"""Arrays by wire name, each with a leading batch axis."""

_WARM_UP_BATCH_SIZES = (1, 2, 32)


class PolicyRuntime:
    """One version of a policy, loaded and warm.

    Args:
        bundle: The version on disk.

    Attributes:
        spec: What it takes and gives.

    Raises:
        InvalidArgumentError: If onnxruntime cannot load the model, or it does not do what the manifest says.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.spec = bundle.spec
        options = onnxruntime.SessionOptions()
        # One thread a replica: Ray places more replicas where more is needed, and threads of small models only wait.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(bundle.model_path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InvalidArgumentError(f"cannot load {bundle.model_path}: {error}") from error
        self._outputs = [spec.name for spec in self.spec.action_tensors]
        self._check_names(bundle)
        self._warm_up(bundle)

    def compute(self, observation: Tensors) -> Tensors:
        """Computes the greedy actions for a batch of observations.

        Args:
            observation: The tensors that the spec lists, in its dtypes.

        Returns:
            The action tensors that the spec lists, in its dtypes.
        """
        return dict(zip(self._outputs, self._session.run(self._outputs, observation), strict=True))

    def _check_names(self, bundle: Bundle) -> None:
        inputs = {entry.name for entry in self._session.get_inputs()}
        outputs = {entry.name for entry in self._session.get_outputs()}
        expected = {spec.name for spec in self.spec.observation_tensors}
        if inputs != expected or not set(self._outputs) <= outputs:
            raise InvalidArgumentError(
                f"expected {bundle.model_path} to take {sorted(expected)} and give {self._outputs}, "
                f"got {sorted(inputs)} and {sorted(outputs)}"
            )

    def _warm_up(self, bundle: Bundle) -> None:
        """Computes batches of zeros, so that the first request does not pay for onnxruntime's preparations."""
        for size in _WARM_UP_BATCH_SIZES:
            zeros = {
                spec.name: np.zeros((size, *spec.shape), tensors.NUMPY_DTYPES[spec.dtype])
                for spec in self.spec.observation_tensors
            }
            try:
                self.compute(zeros)
            except Exception as error:
                raise InvalidArgumentError(f"{bundle.model_path} cannot compute a batch of {size}: {error}") from error
