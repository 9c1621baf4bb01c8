"""For everything that is supported: the bundle acts as RLlib's own inference path does, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.services.trainer import parity
from tests.integration.services.trainer.combinations import COMBINATIONS, Combination
from tests.integration.services.trainer.supported_table import PAGE, describe, page

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("local_ray")]


CASES = [
    # Those that learn from data begin with recording some, by which they take ten times as long.
    pytest.param(
        combination,
        id=", ".join(describe(combination)),
        marks=[pytest.mark.long] if combination.is_offline or combination.is_rare else [],
    )
    for combination in COMBINATIONS
]


@pytest.mark.parametrize("combination", CASES)
def test_the_bundle_acts_as_rllib_does(combination: Combination, tmp_path: Path) -> None:
    parity.check(combination, tmp_path)


def test_the_page_lists_what_is_tested() -> None:
    assert PAGE.read_text() == page(), "run: make docs"
