"""The three ways to compute a policy compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.model_section import LOADS, SECTION, TARGETS, run
from bench.model_systems import SYSTEMS, make_policy
from bench.plan import Plan


@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_all_systems_give_the_same_actions(kind: str, tmp_path: Path) -> None:
    policy = make_policy(kind, tmp_path)
    found: dict[str, Any] = {name: make(policy, 8)() for name, make in SYSTEMS.items()}
    expected = np.asarray(found["bundle"]["action"])
    np.testing.assert_array_equal(np.asarray(found["rllib-torch"]).ravel(), expected)
    np.testing.assert_array_equal(np.asarray(found["rllib-connectors"]).ravel(), expected)


def test_a_turn_gives_a_number_for_each_system() -> None:
    rows = run(Plan(turns=1, seconds=0.1, loads=frozenset({"mlp-32"})), lambda _: None)
    assert {(row.section, row.load, row.metric) for row in rows} == {(SECTION, "mlp-32", "us_per_observation")}
    assert {row.system for row in rows} == set(SYSTEMS)
    assert all(row.median > 0 for row in rows)


def test_every_load_has_a_target() -> None:
    assert {target.load for target in TARGETS} == set(LOADS)
