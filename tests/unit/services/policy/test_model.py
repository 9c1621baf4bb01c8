"""A model that does not do what its manifest says is refused before anybody asks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from services.common.bundle import Bundle, write_bundle
from services.policy.runtime import PolicyRuntime
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2
from tests.bundles import TOTAL, write_linear_bundle

_FLOAT32, _FLOAT64 = common_pb2.DATA_TYPE_FLOAT32, common_pb2.DATA_TYPE_FLOAT64


def edited(bundle: Bundle, edit: Callable[[common_pb2.PolicySpec], object]) -> Bundle:
    """Gives a bundle whose manifest says something else."""
    spec = common_pb2.PolicySpec()
    spec.CopyFrom(bundle.spec)
    edit(spec)
    return replace(bundle, spec=spec)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda spec: setattr(spec.observation_tensors[0], "name", "position"), r"to take \['position'\], got"),
        (lambda spec: spec.state_tensors.add(name=TOTAL, dtype=_FLOAT32, shape=[1]), r"to take .*'total'"),
        (lambda spec: setattr(spec.action_tensors[0], "name", "push"), r"to give \[.*'push'\], got"),
        (
            lambda spec: spec.observation_tensors[0].shape.insert(0, 9),
            r"'observation' as float32\['batch', 9, 4\], got",
        ),
        (lambda spec: setattr(spec.observation_tensors[0], "dtype", _FLOAT64), "'observation' as float64"),
    ],
    ids=["input name", "state", "output name", "shape", "dtype"],
)
def test_what_differs_is_named(tmp_path: Path, edit: Callable[[common_pb2.PolicySpec], object], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        PolicyRuntime(edited(write_linear_bundle(tmp_path), edit))


def test_a_fixed_batch_axis_is_refused(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path)
    model = onnx.load(bundle.model_path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    changed = write_bundle(tmp_path, model.SerializeToString(), bundle.spec, {})
    with pytest.raises(InvalidArgumentError, match=r"\['batch', 4\], got tensor\(float\)\[2, 4\]"):
        PolicyRuntime(changed)


def test_another_axis_without_length_is_refused(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path)
    model = onnx.load(bundle.model_path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "anything"
    changed = write_bundle(tmp_path, model.SerializeToString(), bundle.spec, {})
    with pytest.raises(InvalidArgumentError, match=r"\['batch', 4\], got .*'anything'"):
        PolicyRuntime(changed)
