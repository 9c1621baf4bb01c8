"""What pytest's workers take first, and what stays together."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from tests import scheduling

ROOT = Path(__file__).resolve().parents[2]


class Named:
    """A test that has nothing but its name."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


def test_the_slowest_come_first_and_modules_keep_their_order() -> None:
    names = [
        "tests/unit/a.py::test_2",
        "tests/unit/a.py::test_1",
        "tests/integration/faults/test_faults.py::test_x",
        f"{scheduling._SLOW[0]}::test_b",
        f"{scheduling._SLOW[0]}::test_a",
    ]
    ordered = scheduling.slowest_first(cast("list[pytest.Item]", [Named(name) for name in names]))
    assert [item.nodeid for item in ordered] == [names[index] for index in (3, 4, 2, 0, 1)]


@pytest.mark.parametrize("place", [*scheduling._STACK, *scheduling._SLOW])
def test_what_is_named_exists(place: str) -> None:
    assert (ROOT / place).exists()


def test_modules_stay_together_unless_they_share_nothing() -> None:
    scope = scheduling.SlowestFirst._split_scope
    scheduler = cast("scheduling.SlowestFirst", None)
    shares = "tests/unit/test_scheduling.py"
    assert scope(scheduler, f"{shares}::test_a[x::y]") == shares
    alone = f"{scheduling._STACK[0]}::test_a[x::y]"
    assert scope(scheduler, alone) == alone
