"""Triton answers what our own servers answer, or the comparison is worth nothing."""

from pathlib import Path

import pytest

from bench.loads import TRITON_LOADS
from bench.measurement import measure
from bench.models import write_models
from bench.results import Samples
from bench.systems.triton import Triton, TritonMissingError


@pytest.mark.integration
@pytest.mark.long
def test_triton_answers_every_load_rightly(tmp_path: Path) -> None:
    system = Triton(tmp_path / "triton")
    try:
        system.fetch()
    except TritonMissingError as error:
        pytest.skip(f"Triton cannot be had here: {error}")
    samples = Samples("triton")
    models = write_models(tmp_path / "models")
    try:
        system.start(models)
        for load in TRITON_LOADS:
            if load.kind != "stream":  # which it does not always live through
                assert measure(system, load, 0.5, samples, models) > 0
    finally:
        system.stop()
    assert all(row.median == 0 for row in samples.rows() if row.metric == "failed_requests")
