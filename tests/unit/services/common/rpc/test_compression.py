import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.rpc.compression import Encoding, compress, decompress, read_encoding
from services.common.rpc.errors import CallError
from services.common.rpc.wire import Status


@given(st.binary(), st.sampled_from(["gzip", "deflate"]))
def test_messages_survive(message: bytes, encoding: Encoding) -> None:
    assert decompress(compress(message, encoding), encoding, len(message)) == message


def test_encodings_are_those_of_everybody_else() -> None:
    assert gzip.decompress(compress(b"x", "gzip")) == b"x"
    assert zlib.decompress(compress(b"x", "deflate")) == b"x"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_message_is_inflated_no_further_than_the_limit(encoding: Encoding) -> None:
    bomb = compress(bytes(100_000_000), encoding)
    tracemalloc.start()
    with pytest.raises(CallError, match="at most 1000 bytes") as caught:
        decompress(bomb, encoding, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
    assert peak < 1_000_000


@pytest.mark.parametrize("sent", [b"", b"x", compress(b"x" * 100, "gzip")[:-1], compress(b"x", "gzip") + b"more"])
def test_what_is_no_whole_message_is_refused(sent: bytes) -> None:
    with pytest.raises(CallError) as caught:
        decompress(sent, "gzip", 1000)
    assert caught.value.status is Status.INTERNAL


def test_what_should_not_be_compressed_is_refused() -> None:
    with pytest.raises(CallError) as caught:
        decompress(b"", "identity", 1000)
    assert caught.value.status is Status.INTERNAL


def test_only_known_encodings_are_taken() -> None:
    assert [read_encoding(name) for name in (b"identity", b"gzip", b"deflate")] == ["identity", "gzip", "deflate"]
    with pytest.raises(CallError, match="snappy") as caught:
        read_encoding(b"snappy")
    assert caught.value.status is Status.UNIMPLEMENTED
