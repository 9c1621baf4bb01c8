import json
from pathlib import Path

import pytest

from bench.results import Row, Samples, write_results


def test_turns_become_a_median_with_spread() -> None:
    samples = Samples("serve")
    for value in (3.0, 1.0, 2.0):
        samples.add("unary-1", "floor", "p50_ms", value)
    assert samples.rows() == [Row("serve", "unary-1", "floor", "p50_ms", 2.0, 1.0, 3.0, 3)]


def test_a_section_replaces_its_own_rows_only(tmp_path: Path) -> None:
    path = tmp_path / "var" / "bench.json"
    old, new = Row("serve", "a", "floor", "p50_ms", 1, 1, 1, 1), Row("serve", "b", "floor", "p50_ms", 2, 2, 2, 1)
    other = Row("model", "mlp-1", "bundle", "us_per_observation", 5, 5, 5, 1)
    write_results(path, "serve", [old])
    write_results(path, "model", [other])
    assert write_results(path, "serve", [new]) == [other, new]
    document = json.loads(path.read_text())
    assert set(document) == {"machine", "rows"}
    assert [row["load"] for row in document["rows"]] == ["mlp-1", "b"]


def test_what_is_no_number_never_reaches_the_file(tmp_path: Path) -> None:
    nan = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_results(tmp_path / "bench.json", "serve", [Row("serve", "a", "floor", "p50_ms", nan, nan, nan, 1)])
    assert not (tmp_path / "bench.json").exists()
