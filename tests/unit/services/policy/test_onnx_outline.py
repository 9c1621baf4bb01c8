from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from services.policy.onnx_outline import check_self_contained, without_output
from steersman.errors import InvalidArgumentError
from tests.bundles import write_gaussian_bundle


def test_one_output_goes_and_all_else_stays(tmp_path: Path) -> None:
    original = write_gaussian_bundle(tmp_path).model_path.read_bytes()
    expected = onnx.load_from_string(original)
    (value,) = [output for output in expected.graph.output if output.name == "value"]
    expected.graph.output.remove(value)
    assert onnx.load_from_string(without_output(original, "value")) == expected


def test_an_output_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    original = write_gaussian_bundle(tmp_path).model_path.read_bytes()
    assert onnx.load_from_string(without_output(original, "nothing")) == onnx.load_from_string(original)


def test_a_model_with_weights_in_other_files_is_refused(tmp_path: Path) -> None:
    bundle = write_gaussian_bundle(tmp_path)
    model = onnx.load(bundle.model_path)
    check_self_contained(model.SerializeToString(), bundle.model_path)
    weights = model.graph.initializer[0]
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="/etc/passwd")
    weights.ClearField("raw_data")
    with pytest.raises(InvalidArgumentError, match="holds all of its weights"):
        check_self_contained(model.SerializeToString(), bundle.model_path)


def test_weights_in_other_files_are_found_in_nested_graphs_too(tmp_path: Path) -> None:
    inner = onnx.helper.make_graph([], "inner", [], [])
    inner.initializer.add(name="hidden", data_location=onnx.TensorProto.EXTERNAL)
    node = onnx.helper.make_node("If", ["condition"], ["result"], then_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "outer", [], []))
    with pytest.raises(InvalidArgumentError, match="holds all of its weights"):
        check_self_contained(model.SerializeToString(), tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="it is no ONNX model"):
        check_self_contained(b"no model", tmp_path)
