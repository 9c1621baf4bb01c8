import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.rpc import wire
from services.common.rpc.wire import Status


def test_status_codes_are_those_of_grpc() -> None:
    assert [(status.name, int(status)) for status in Status] == [(code.name, code.value[0]) for code in grpc.StatusCode]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"0S", 0),
        (b"99999999S", 99999999),
    ],
)
def test_timeouts_are_read(value: bytes, seconds: float) -> None:
    assert wire.parse_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [b"", b"S", b"1", b"1s", b"-1S", b"+1S", b"1.5S", b" 1S", b"1 S", b"123456789S", b"1_0S", "²S".encode(), b"1\xb2"],
)
def test_what_is_no_timeout_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="expected a grpc-timeout"):
        wire.parse_timeout(value)


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_timeouts_survive_the_wire_to_four_digits(seconds: float) -> None:
    value = wire.format_timeout(seconds)
    assert len(value) <= 9
    assert wire.parse_timeout(value) == pytest.approx(seconds, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e30])
def test_timeouts_that_cannot_be_written_are_the_nearest_that_can(seconds: float) -> None:
    assert wire.format_timeout(seconds) == (b"1n" if seconds <= 0 else b"99999999H")


@given(st.text(st.characters(codec="utf-8")))
def test_messages_survive_the_wire_as_printable_ascii(message: str) -> None:
    quoted = wire.quote(message)
    assert all(0x20 <= byte <= 0x7E for byte in quoted)
    assert wire.unquote(quoted) == message


@pytest.mark.parametrize(
    ("quoted", "message"),
    [(b"100%", "100%"), (b"%zz", "%zz"), (b"%4", "%4"), (b"a%20b", "a b"), (b"%ff", "\ufffd"), (b"%e7%8c%ab", "猫")],
)
def test_broken_messages_are_read_as_far_as_they_go(quoted: bytes, message: str) -> None:
    assert wire.unquote(quoted) == message


def test_lone_surrogates_are_replaced() -> None:
    assert wire.quote("a\ud800b") == b"a?b"


@given(
    st.lists(
        st.one_of(
            st.tuples(st.from_regex(r"[a-z0-9_.-]{1,20}-bin", fullmatch=True), st.binary()),
            st.tuples(
                st.from_regex(r"x[a-z0-9_.-]{0,20}", fullmatch=True).filter(lambda key: not key.endswith("-bin")),
                st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)),
            ),
        ),
        max_size=10,
    )
)
def test_metadata_survive_the_wire(metadata: list[tuple[str, str | bytes]]) -> None:
    metadata = [pair for pair in metadata if not pair[0].startswith("grpc-")]
    fields = wire.encode_metadata(metadata)
    assert all(value.isascii() for _, value in fields)
    assert wire.decode_metadata(fields) == tuple(metadata)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Upper", "x"),
        ("", "x"),
        (":path", "x"),
        ("a b", "x"),
        ("ключ", "x"),
        ("te", "x"),
        ("content-type", "x"),
        ("grpc-status", "0"),
        ("grpc-message", "x"),
        ("text", "line\nfeed"),
        ("text", "\x00"),
        ("data-bin", "text"),
    ],
)
def test_metadata_that_would_break_the_wire_are_refused(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        wire.encode_metadata([(key, value)])


def test_values_that_came_with_other_bytes_can_be_sent_back() -> None:
    metadata = wire.decode_metadata([(b"x", b"caf\xe9")])
    assert wire.encode_metadata(metadata) == [(b"x", b"caf\xe9")]


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        (b"AP8", [b"\x00\xff"]),
        (b"AP8=", [b"\x00\xff"]),
        (b"AP8,AQ", [b"\x00\xff", b"\x01"]),
        (b"AP8, AQ==", [b"\x00\xff", b"\x01"]),
        (b"", [b""]),
        (b"!", []),
        (b"A", []),
    ],
)
def test_binary_metadata_are_read_padded_joined_and_not_at_all_if_broken(value: bytes, decoded: list[bytes]) -> None:
    assert wire.decode_metadata([(b"x-bin", value)]) == tuple(("x-bin", part) for part in decoded)


def test_fields_of_the_protocol_are_no_metadata() -> None:
    own = [(b":path", b"/"), (b"te", b"trailers"), (b"grpc-timeout", b"1S"), (b"grpc-encoding", b"gzip")]
    theirs = [(b"user-agent", b"me"), (b"grpc-previous-rpc-attempts", b"2"), (b"grpc-trace-bin", b"AQ")]
    expected = (("user-agent", "me"), ("grpc-previous-rpc-attempts", "2"), ("grpc-trace-bin", b"\x01"))
    assert wire.decode_metadata([*own, *theirs]) == expected


def test_metadata_have_names_as_in_grpc() -> None:
    (entry,) = wire.decode_metadata([(b"a", b"b")])
    assert (entry.key, entry.value) == ("a", "b")


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ([(b"grpc-status", b"0")], Status.OK, ""),
        ([(b"grpc-status", b"5"), (b"grpc-message", b"a%20b")], Status.NOT_FOUND, "a b"),
        ([(b"grpc-message", b"early"), (b"grpc-status", b"14")], Status.UNAVAILABLE, "early"),
        ([(b"grpc-status", b"17")], Status.UNKNOWN, "expected a status of 0 to 16, got b'17'"),
        ([(b"grpc-status", b"x")], Status.UNKNOWN, "expected a status of 0 to 16, got b'x'"),
        ([], Status.UNKNOWN, "expected trailers with grpc-status, got none"),
    ],
)
def test_status_is_read_from_trailers(fields: list[wire.Field], status: Status, message: str) -> None:
    assert wire.read_status(fields) == (status, message)


@given(st.sampled_from(list(Status)), st.text(st.characters(codec="utf-8")))
def test_status_survives_the_wire(status: Status, message: str) -> None:
    assert wire.read_status(wire.status_trailers(status, message)) == (status, message)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;x", True),
        (b"application/grpcweb", False),
        (b"application/json", False),
        (b"", False),
        (None, False),
    ],
)
def test_content_types_of_grpc_are_known(content_type: bytes | None, *, expected: bool) -> None:
    assert wire.is_grpc(content_type) == expected
