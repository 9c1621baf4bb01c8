from pathlib import Path

import pytest

from steersman._client.failures import NOT_LISTENING, SAYS_NOTHING
from steersman.cli.connection import explained, numbers_that_fit
from steersman.errors import (
    ConnectionLostError,
    InvalidArgumentError,
    NotFoundError,
    SteersmanError,
    UnavailableError,
    UnreachableError,
)
from steersman.v1 import evaluator_pb2
from tests.command_line import CommandLine


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (UnreachableError(f"cannot reach it: {NOT_LISTENING}"), "; start everything with: make up"),
        (UnreachableError(f"cannot reach it: {SAYS_NOTHING}"), "; see what is up with: steersman status"),
        (UnreachableError("cannot reach it through the proxy x:1"), "; name the address in no_proxy if "),
        (ConnectionLostError("lost the connection"), "; see what is up with: steersman status"),
        # What the service says is passed on, also if it is about a service behind it.
        (UnavailableError("no replica is attached yet"), ""),
        (NotFoundError("no actions: cannot reach the gateway"), ""),
    ],
)
def test_it_is_said_what_to_do(error: SteersmanError, advice: str) -> None:
    with pytest.raises(type(error)) as explanation, explained():
        raise error
    assert str(explanation.value).startswith(f"{error}{advice}")
    assert advice or str(explanation.value) == str(error)


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
