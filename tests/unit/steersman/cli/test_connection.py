from pathlib import Path

import pytest

from steersman.cli.connection import explained, numbers_that_fit
from steersman.errors import InvalidArgumentError, UnavailableError
from steersman.v1 import evaluator_pb2
from tests.command_line import CommandLine


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused",
            "cannot reach the gateway at here:1; start everything with: make up",
        ),
        (
            "connections to all backends failing; last error: UNKNOWN: Failed to connect to remote host",
            "cannot reach the gateway at here:1; start everything with: make up",
        ),
        ("errors resolving here:1: ", "cannot reach the gateway at here:1; start everything with: make up"),
        (
            "Stream removed (Socket closed)",
            "lost the connection to the gateway at here:1; see what is up with: steersman status",
        ),
        (
            "Cancelling all calls",
            "lost the connection to the gateway at here:1; see what is up with: steersman status",
        ),
        # What the service says is passed on, also if it is about a service behind it.
        ("no replica is attached yet", "no replica is attached yet"),
        ("no actions from the gateway at x:2: failed to connect to x", "no actions from the gateway at x:2: failed to"),
    ],
)
def test_a_service_that_is_not_there_is_told_from_one_that_says_no(said: str, expected: str) -> None:
    with pytest.raises(UnavailableError) as explanation, explained("gateway", "here:1"):
        raise UnavailableError(said)
    assert str(explanation.value).startswith(expected)


def test_numbers_that_are_too_large_are_explained() -> None:
    words = r"expected numbers that fit into the request.*5000000000"
    with pytest.raises(InvalidArgumentError, match=words), numbers_that_fit():
        evaluator_pb2.EvaluateRequest(episodes=5_000_000_000)
    with pytest.raises(InvalidArgumentError, match="as it was"), numbers_that_fit():
        raise InvalidArgumentError("as it was")


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "x", "--episodes", "5000000000"],
        ["evaluate", "x", "--seed", "99999999999999999999"],
        ["train", "CartPole-v1", "--seed", "4294967296"],
        ["deploy", "cartpole", "--replicas", "4294967296"],
        ["runs", "--limit", "4294967296"],
    ],
    ids=" ".join,
)
def test_commands_explain_numbers_that_are_too_large(steersman: CommandLine, arguments: list[str]) -> None:
    result = steersman(*arguments)
    assert result.exit_code == 1
    assert "Error: expected numbers that fit into the request, got a larger one" in result.errors


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("a = [", "the settings file is not TOML"),
        ("max_batch_size = 'many'", "a setting is wrong: max_batch_size"),
        ("no_such_setting = 1", "a setting is wrong: no_such_setting"),
    ],
)
def test_a_settings_file_that_is_wrong_is_explained(
    steersman: CommandLine, tmp_path: Path, toml: str, words: str
) -> None:
    path = tmp_path / "steersman.toml"
    path.write_text(toml)
    steersman.configure(config=str(path))
    result = steersman("policies")
    assert result.exit_code == 1
    assert words in result.errors


def test_a_setting_that_is_no_json_is_explained(steersman: CommandLine) -> None:
    steersman.configure(gateway_peers="[")
    result = steersman("policies")
    assert result.exit_code == 1
    assert "gateway_peers" in result.errors
