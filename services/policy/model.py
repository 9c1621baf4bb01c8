"""ONNX models in onnxruntime: which processor computes them, and whether they do what a manifest says."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime

from steersman import tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

_log = logging.getLogger(__name__)

_DTYPES = {
    "tensor(bool)": common_pb2.DATA_TYPE_BOOL,
    "tensor(uint8)": common_pb2.DATA_TYPE_UINT8,
    "tensor(int8)": common_pb2.DATA_TYPE_INT8,
    "tensor(uint16)": common_pb2.DATA_TYPE_UINT16,
    "tensor(int16)": common_pb2.DATA_TYPE_INT16,
    "tensor(uint32)": common_pb2.DATA_TYPE_UINT32,
    "tensor(int32)": common_pb2.DATA_TYPE_INT32,
    "tensor(uint64)": common_pb2.DATA_TYPE_UINT64,
    "tensor(int64)": common_pb2.DATA_TYPE_INT64,
    "tensor(float16)": common_pb2.DATA_TYPE_FLOAT16,
    "tensor(float)": common_pb2.DATA_TYPE_FLOAT32,
    "tensor(double)": common_pb2.DATA_TYPE_FLOAT64,
}


def load_model(model: bytes, path: Path) -> onnxruntime.InferenceSession:
    """Loads a model: on the replica's GPU if it has one and onnxruntime was built for it, else on the CPU.

    Args:
        model: The serialised model.
        path: Where it was read, for messages.

    Raises:
        InvalidArgumentError: If onnxruntime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    # One thread a replica: Ray places more replicas where more is needed, and threads of small models only wait.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=_providers())
    except Exception as error:
        raise InvalidArgumentError(f"cannot load {path}: {error}") from error
    _log.info("%s is computed by %s", path, session.get_providers()[0])
    return session


def _providers() -> list[str]:
    # Ray tells a replica its GPUs by this variable, and a replica without any by an empty one.
    has_gpu = bool(os.environ.get("CUDA_VISIBLE_DEVICES"))
    offers_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return [*(["CUDAExecutionProvider"] if has_gpu and offers_cuda else []), "CPUExecutionProvider"]


def check_model(
    session: onnxruntime.InferenceSession,
    inputs: Iterable[common_pb2.TensorSpec],
    outputs: Iterable[common_pb2.TensorSpec],
    path: Path,
) -> None:
    """Checks that a model takes and gives what its manifest says, each with a batch axis in front.

    Args:
        session: The model.
        inputs: All that it takes.
        outputs: What it must give; it may give more.
        path: Where it was read, for messages.

    Raises:
        InvalidArgumentError: If a name, a dtype or a shape differs.
    """
    _check(session.get_inputs(), list(inputs), f"{path} to take", complete=True)
    _check(session.get_outputs(), list(outputs), f"{path} to give", complete=False)


def _check(found: Iterable[Any], wanted: list[common_pb2.TensorSpec], what: str, *, complete: bool) -> None:
    by_name = {entry.name: entry for entry in found}
    names = {spec.name for spec in wanted}
    if not names <= set(by_name) or (complete and names != set(by_name)):
        raise InvalidArgumentError(f"expected {what} {sorted(names)}, got {sorted(by_name)}")
    for spec in wanted:
        entry = by_name[spec.name]
        batch, *shape = entry.shape or [None]
        if isinstance(batch, int) or shape != list(spec.shape) or _DTYPES.get(entry.type) != spec.dtype:
            expected = f"{tensors.dtype_name(spec.dtype)}{['batch', *spec.shape]}"
            raise InvalidArgumentError(
                f"expected {what} {spec.name!r} as {expected}, got {entry.type}{list(entry.shape)}"
            )
