"""Messages of any kind with odd values in them: what clients send that were written in haste, or in malice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

M = TypeVar("M", bound=Message)

ODD_TEXTS = (
    "",
    " ",
    "../../etc/passwd",
    "a'b",
    "a:b",
    "a:1",
    "a@b",
    "a:" + "1" * 5000,
    "a:99999999999999999999",
    "1" * 5000,
    "-1",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "\N{SUPERSCRIPT TWO}",
    "\0",
    "a\nb",
    "%s%n{0}",
    "file:///nowhere",
    "http://[",
    "s3://",
    "größe",
    "\N{GRINNING FACE}",
    "\N{RIGHT-TO-LEFT OVERRIDE}",
    "x" * 300,
    "x/" * 3000,
    "x" * 100_000,
)
"""Texts that have broken programs."""

TEXTS = st.sampled_from(ODD_TEXTS) | st.text(st.characters(codec="utf-8"), max_size=20)

_LARGEST = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_DEEPEST = 4
_Known = dict[str, st.SearchStrategy[object]]


def messages(
    kind: type[M],
    like: M | None = None,
    leave_out: Collection[str] = (),
    **known: st.SearchStrategy[object],
) -> st.SearchStrategy[M]:
    """Gives messages with any of their fields set.

    Args:
        kind: The class of message.
        like: A message that makes sense, of which some fields are changed; None to begin with an empty one.
        leave_out: Names of fields that are left alone, at whatever depth.
        **known: For the names of some fields of texts, at whatever depth, values that may be in them as well, so that
            messages get past the first check.
    """

    @st.composite
    def drawn(draw: st.DrawFn) -> M:
        message = kind()
        if like is not None:
            message.CopyFrom(like)
        _fill(draw, message, known, leave_out, depth=0)
        return message

    return drawn()


def _fill(draw: st.DrawFn, message: Message, known: _Known, leave_out: Collection[str], depth: int) -> None:
    fields = [field for field in message.DESCRIPTOR.fields if field.name not in leave_out]
    for field in draw(st.lists(st.sampled_from(fields), unique=True, max_size=len(fields))) if fields else ():
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and depth >= _DEEPEST:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _fill_map(draw, message, field, known, leave_out, depth)
        elif field.is_repeated:
            for _ in range(draw(st.integers(1, 3))):
                if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
                    _fill(draw, getattr(message, field.name).add(), known, leave_out, depth + 1)
                else:
                    getattr(message, field.name).append(draw(_values(field, known)))
        elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            part = getattr(message, field.name)
            part.SetInParent()
            _fill(draw, part, known, leave_out, depth + 1)
        else:
            setattr(message, field.name, draw(_values(field, known)))


def _fill_map(
    draw: st.DrawFn,
    message: Message,
    field: Any,  # noqa: ANN401 - a descriptor
    known: _Known,
    leave_out: Collection[str],
    depth: int,
) -> None:
    key_field, value_field = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
    entries = getattr(message, field.name)
    for key in draw(st.lists(_values(key_field, known), unique=True, max_size=2)):
        if value_field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            _fill(draw, entries[key], known, leave_out, depth + 1)
        else:
            entries[key] = draw(_values(value_field, known))


def _values(field: Any, known: _Known) -> st.SearchStrategy[object]:  # noqa: ANN401 - a descriptor
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=64)
        return known[field.name] | TEXTS if field.name in known else TEXTS
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e300 if field.cpp_type == 5 else 1e30])
    low, high = _LARGEST[field.cpp_type]
    return st.sampled_from([low, max(low, -1), 0, 1, 2, high]) | st.integers(max(low, -3), 10)


def request_class(method: object) -> type[Message]:
    """Gives the class of the requests of a method, from its descriptor."""
    return message_factory.GetMessageClass(method.input_type)  # type: ignore[attr-defined]
