from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from steersman.arguments import plain_values
from steersman.errors import InvalidArgumentError

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def struct_of(entries: dict[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(entries)
    return struct


@given(st.dictionaries(st.text(max_size=3), values, max_size=3))
def test_values_come_back_as_they_were(entries: dict[str, object]) -> None:
    assert plain_values(struct_of(entries)) == entries


def test_whole_numbers_are_integers_and_truths_are_not() -> None:
    plain = plain_values(struct_of({"steps": 7, "scale": 0.5, "deep": [{"n": 3}], "flag": True, "large": 1e30}))
    assert plain == {"steps": 7, "scale": 0.5, "deep": [{"n": 3}], "flag": True, "large": 1e30}
    assert type(plain["large"]) is float
    assert type(plain["steps"]) is int
    assert type(plain["deep"][0]["n"]) is int
    assert plain["flag"] is True


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(InvalidArgumentError, match="expected values that JSON has words for"):
        plain_values(struct_of({"x": number}))
