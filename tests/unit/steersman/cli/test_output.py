import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from steersman.cli import output
from steersman.v1 import deployment_pb2, trainer_pb2

BRACKETS = "expected float32[batch, 4] in [/tmp/x], got [bold]nothing[/bold]"


def test_messages_become_plain_values() -> None:
    deployment = deployment_pb2.Deployment(
        policy="cartpole", version=2**40, state=deployment_pb2.DEPLOYMENT_STATE_READY, aliases={"champion": 7}
    )
    assert output.plain(deployment)["aliases"] == {"champion": 7}
    assert output.plain(deployment)["version"] == 2**40
    assert output.plain(deployment)["state"] == "ready"
    run = trainer_pb2.Run(latest=trainer_pb2.Iteration(iteration=3))
    run.spec.settings.update({"lr": 0.5})
    assert output.plain(run)["latest"]["iteration"] == 3
    assert "training_return" not in output.plain(run)["latest"]
    assert output.plain(run)["spec"]["settings"] == {"lr": 0.5}


@pytest.mark.usefixtures("terminal")
def test_what_is_in_brackets_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    output.say(BRACKETS)
    output.print_table("Title", ("a", "b"), [(BRACKETS, 1)], "")
    output.print_table("Title", ("a",), [], BRACKETS)
    output.note(BRACKETS)
    output.print_error(BRACKETS)
    with output.progress() as view:
        view.add_task(BRACKETS, total=None)
    captured = capsys.readouterr()
    assert captured.out.count(BRACKETS) == 3
    assert captured.err.count(BRACKETS) >= 3
    assert f"Error: {BRACKETS}\n" in captured.err


RUN_ID = "0123456789abcdef" * 2


def print_wide_table(width: int, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(force_terminal=terminal, color_system=None, width=width)
    monkeypatch.setattr(output, "console", console)
    output.print_table("Runs", ("run", "return"), [(RUN_ID, "432.1 in training, 460.0 evaluated, " * 3)], "")


def test_what_names_a_row_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    print_wide_table(50, True, monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert any(RUN_ID in line for line in lines)
    assert max(map(len, lines)) <= 50


def test_a_row_is_a_line_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_wide_table(50, False, monkeypatch)
    (row,) = [line for line in capsys.readouterr().out.splitlines() if RUN_ID in line]
    assert row.count("460.0 evaluated") == 3


@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_message_can_be_an_error(capsys: pytest.CaptureFixture[str], message: str) -> None:
    output.print_error(message)
    assert capsys.readouterr().err.startswith("Error: ")


def test_json_is_json_also_where_numbers_are_infinite(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"low": [float("-inf"), 0.5], "high": float("inf"), "mean": float("nan")})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    printed = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert printed == {"low": ["-Infinity", 0.5], "high": "Infinity", "mean": "NaN"}
