import pytest

from steersman import ConnectionOptions
from steersman._client.options import with_overrides
from steersman.errors import InvalidArgumentError
from steersman.settings import Settings


def test_the_limit_of_messages_is_the_servers_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ConnectionOptions().max_message_bytes == 64 * 2**20 == Settings().max_message_bytes
    monkeypatch.setenv("STEERSMAN_MAX_MESSAGE_BYTES", "268435456")
    assert ConnectionOptions().max_message_bytes == 2**28 == Settings().max_message_bytes
    assert ConnectionOptions(max_message_bytes=2**20).max_message_bytes == 2**20
    assert Settings().connection("a:1") == ConnectionOptions(["a:1"], max_message_bytes=2**28)


@pytest.mark.parametrize(("value", "words"), [("many", "to be a number of bytes, got 'many'"), ("1", "of 1024 to")])
def test_a_limit_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    monkeypatch.setenv("STEERSMAN_MAX_MESSAGE_BYTES", value)
    with pytest.raises(InvalidArgumentError, match=words):
        ConnectionOptions()


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_timeouts_that_make_no_sense_are_refused(timeout: float) -> None:
    with pytest.raises(InvalidArgumentError, match="expected timeouts above 0 s"):
        ConnectionOptions(timeout=timeout)
    with pytest.raises(InvalidArgumentError, match="expected timeouts above 0 s"):
        ConnectionOptions(connect_timeout=timeout)


def test_what_is_said_to_a_client_goes_before_its_options() -> None:
    options = ConnectionOptions(["a:1"], timeout=3.0, connect_timeout=1.0)
    assert with_overrides(options, None, None) is options
    assert with_overrides(options, "b:2", None) == ConnectionOptions(["b:2"], timeout=3.0, connect_timeout=1.0)
    assert with_overrides(None, ["b:2", "c:3"], 1.0) == ConnectionOptions(["b:2", "c:3"], timeout=1.0)


def test_one_text_is_not_taken_for_many_addresses() -> None:
    with pytest.raises(InvalidArgumentError, match="expected a sequence of addresses"):
        ConnectionOptions("a:1")
