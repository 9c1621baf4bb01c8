from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from steersman import arguments
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2

# What an environment that minds types is made with: one that has floats that are whole numbers, and a long id.
RAMP = {
    "start": 10.0,
    "limits": {"low": -50.0, "high": 50.0, "steps": 20},
    "gains": [-1.0, 0.0, 1.0],
    "serial": 9007199254740993,
    "label": None,
}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def typed(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Writes a value so that 10 and 10.0 differ."""
    return repr(value)


def test_numbers_keep_their_types_in_nested_arguments() -> None:
    environment = trainer_pb2.Environment(id="Ramp-v0")
    arguments.set_kwargs(environment, RAMP)
    travelled = trainer_pb2.Environment.FromString(environment.SerializeToString())
    assert typed(arguments.kwargs_of(travelled)) == typed(RAMP)
    recorded = json_format.Parse(json_format.MessageToJson(environment), trainer_pb2.Environment())
    assert typed(arguments.kwargs_of(recorded)) == typed(RAMP), "as MLflow keeps the spec of a run"


@given(st.dictionaries(texts, values, max_size=3))
def test_arguments_come_back_as_they_were(entries: dict[str, Any]) -> None:
    environment = trainer_pb2.Environment()
    arguments.set_kwargs(environment, entries)
    assert typed(arguments.kwargs_of(environment)) == typed(entries)


def test_those_who_read_no_text_get_doubles() -> None:
    environment = trainer_pb2.Environment()
    arguments.set_kwargs(environment, RAMP | {"huge": 10**400})
    assert environment.kwargs["start"] == 10.0
    assert environment.kwargs["serial"] == 9007199254740992
    assert environment.kwargs.fields["limits"].struct_value["steps"] == 20
    assert environment.kwargs["huge"] == str(10**400)


def test_those_who_write_no_text_are_read_as_before() -> None:
    struct = struct_pb2.Struct()
    struct.update({"steps": 7, "scale": 0.5})
    assert typed(sorted(arguments.from_message(struct, "").items())) == typed([("scale", 0.5), ("steps", 7)])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "nan for the argument 'a.b'"),
        (float("inf"), "inf for the argument"),
        (datetime(2026, 1, 1, tzinfo=UTC), "got datetime 2026"),
        ("\ud800", "text that UTF-8 can hold"),
        ({1: 2}, "text as the keys"),
    ],
)
def test_what_cannot_travel_is_refused_by_name(value: object, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'a\.b'") as error:
        arguments.to_text({"a": {"b": value}})
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["[]", "{", "NaN", '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, '{"a": "\\ud800"}'])
def test_text_that_is_no_object_of_plain_values_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        arguments.from_text(text)


def test_nothing_is_no_text() -> None:
    assert arguments.to_text({}) == ""
    assert arguments.from_text("") == {}
    assert json.loads(arguments.to_text({"ü": 1})) == {"ü": 1}


def test_people_read_them_as_python_takes_them() -> None:
    assert arguments.in_words({"g": 5.0, "render_mode": None}) == "g=5.0, render_mode=None"
