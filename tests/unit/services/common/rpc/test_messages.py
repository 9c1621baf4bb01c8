import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.rpc.compression import compress
from services.common.rpc.errors import CallError
from services.common.rpc.messages import MessageCutter, only_message
from services.common.rpc.wire import PREFIX, Status, prefixed

LIMIT = 1000


def cut(chunks: list[bytes]) -> list[bytes]:
    """Feeds chunks and takes the messages after each."""
    cutter = MessageCutter(LIMIT, "gzip")
    messages = []
    for chunk in chunks:
        cutter.feed(chunk)
        while (message := cutter.next()) is not None:
            messages.append(message)
    assert cutter.held == 0
    return messages


@given(st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=8), st.data())
def test_messages_are_the_same_however_their_bytes_are_split(
    messages: list[tuple[bytes, bool]], data: st.DataObject
) -> None:
    sent = b"".join(
        prefixed(compress(message, "gzip") if compressed else message, compressed=compressed)
        for message, compressed in messages
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=20)))
    chunks = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    expected = [message for message, _ in messages]
    assert cut(chunks) == expected
    assert cut([bytes([byte]) for byte in sent]) == expected
    assert cut([sent]) == expected


def test_what_is_not_asked_for_waits_and_what_has_not_come_is_held() -> None:
    cutter = MessageCutter(LIMIT)
    cutter.feed(prefixed(b"one") + prefixed(b"two"))
    assert cutter.next() == b"one"
    cutter.feed(prefixed(b"three")[:6])
    assert cutter.held == 8 + 6
    assert cutter.next() == b"two"
    assert cutter.next() is None
    assert cutter.held == 6
    cutter.feed(prefixed(b"three")[6:])
    assert cutter.next() == b"three"


@pytest.mark.parametrize("promised", [LIMIT + 1, 2**32 - 1])
def test_a_prefix_that_promises_too_much_is_refused_before_it_comes(promised: int) -> None:
    cutter = MessageCutter(LIMIT)
    cutter.feed(PREFIX.pack(0, promised))
    with pytest.raises(CallError, match=str(promised)) as caught:
        cutter.next()
    assert caught.value.status is Status.RESOURCE_EXHAUSTED


def test_a_flag_that_is_none_is_refused() -> None:
    cutter = MessageCutter(LIMIT)
    cutter.feed(PREFIX.pack(2, 0))
    with pytest.raises(CallError, match="flag") as caught:
        cutter.next()
    assert caught.value.status is Status.INTERNAL


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (prefixed(b"x"), b"x"),
        (prefixed(b""), b""),
        (prefixed(bytes(LIMIT)), bytes(LIMIT)),
        (prefixed(bytes(LIMIT + 1)), None),
        (prefixed(b"x", compressed=True), None),
        (prefixed(b"x") * 2, None),
        (prefixed(b"xy")[:-1], None),
        (b"\0\0\0\0", None),
        (b"", None),
    ],
)
def test_one_whole_message_is_seen_at_once(data: bytes, message: bytes | None) -> None:
    assert only_message(data, LIMIT) == message
