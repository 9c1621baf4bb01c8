from __future__ import annotations

from pathlib import Path

import onnx

from services.policy.onnx_outline import without_output
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
