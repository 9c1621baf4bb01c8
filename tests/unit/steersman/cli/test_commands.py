import json
import subprocess
import sys
import time
from collections import Counter

import pytest
from typer.main import get_command

from deploy.free_ports import free_address
from steersman.cli.app import app
from steersman.cli.connection import call_seconds
from steersman.cli.train import parse_settings
from steersman.errors import InvalidArgumentError
from tests.command_line import CommandLine
from tests.servers import silent_server

RUN_COMMANDS = ["show", "watch", "stop"]
CALLS = [
    (["train", "CartPole-v1", "--stop-return", "450"], "trainer"),
    (["resume", "abc"], "trainer"),
    (["logs", "abc"], "trainer"),
    (["runs"], "trainer"),
    (["runs", "show", "abc"], "trainer"),
    (["runs", "watch", "abc"], "trainer"),
    (["runs", "stop", "abc"], "trainer"),
    (["runs", "compare", "abc", "def"], "trainer"),
    (["deploy", "cartpole"], "gateway"),
    (["undeploy", "cartpole"], "gateway"),
    (["policies"], "gateway"),
    (["policy", "show", "cartpole"], "gateway"),
    (["top", "--once"], "gateway"),
    (["route", "cartpole", "1=100"], "gateway"),
    (["alias", "cartpole:1", "champion"], "gateway"),
    (["promote", "cartpole:1"], "gateway"),
    (["rollback", "cartpole"], "gateway"),
    (["audit"], "gateway"),
    (["act", "cartpole", "[0, 0, 0, 0]"], "gateway"),
    (["evaluate", "cartpole"], "evaluator"),
    (["compare", "cartpole:1", "cartpole:2"], "evaluator"),
]
"""Commands that call a service, and which."""

COMMANDS = ["train", "runs", "deploy", "undeploy", "policies", "act", "evaluate", "serve", "status"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(steersman: CommandLine, command: str) -> None:
    result = steersman(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert "--json" in result.output
    assert "Example" in result.output
    assert command in steersman("--help").output


def test_no_group_of_options_is_long() -> None:
    lengths: Counter[tuple[str, str]] = Counter()
    commands = [("steersman", get_command(app))]
    while commands:
        name, command = commands.pop()
        commands += [(f"{name} {child}", found) for child, found in getattr(command, "commands", {}).items()]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                lengths[name, getattr(parameter, "rich_help_panel", None) or "Options"] += 1
    assert len(lengths) > 40
    assert [group for group, length in lengths.items() if length > 8] == []


@pytest.mark.parametrize("command", RUN_COMMANDS)
def test_every_command_about_a_run_explains_itself(steersman: CommandLine, command: str) -> None:
    result = steersman("runs", command, "--help")
    assert result.exit_code == 0
    assert f"steersman runs {command} RUN" in result.output
    assert command in steersman("runs", "--help").output


@pytest.mark.parametrize(("arguments", "service"), CALLS, ids=[" ".join(arguments) for arguments, _ in CALLS])
def test_a_service_that_is_not_there_is_named_with_what_to_do(
    steersman: CommandLine, arguments: list[str], service: str
) -> None:
    nobody = free_address()
    steersman.configure(**{f"{service}_address": nobody})
    result = steersman(*arguments)
    assert result.exit_code == 1
    assert (
        f"cannot reach the {service} at {nobody}: nothing listens there; start everything with: make up"
        in result.errors
    )
    assert "Traceback" not in result.errors
    assert result.output == ""


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in CALLS], ids=" ".join)
def test_a_service_that_takes_the_connection_and_says_nothing_is_named_within_the_timeout(
    steersman: CommandLine, arguments: list[str]
) -> None:
    """But for `deploy`, whose own timeout is for something else; there it takes five seconds."""
    timeout = [] if arguments[0] == "deploy" else ["--timeout", "0.5"]
    with silent_server() as silent:
        steersman.configure(gateway_address=silent, trainer_address=silent, evaluator_address=silent)
        began = time.monotonic()
        result = steersman(*arguments, *timeout)
        took = time.monotonic() - began
    assert result.exit_code == 1
    assert "Traceback" not in result.errors
    assert silent in result.errors
    assert "says nothing" in result.errors or "within 0.5 s, got none" in result.errors
    assert "make up" not in result.errors
    assert took < (15 if arguments[0] == "deploy" else 10)


def test_the_timeout_of_one_command_is_not_that_of_the_next(steersman: CommandLine) -> None:
    steersman.configure(gateway_address=free_address())
    steersman("policies", "--timeout", "3")
    assert call_seconds() == 3
    steersman("policies")
    assert call_seconds() == 60


def test_status_tells_what_is_not_reachable(steersman: CommandLine) -> None:
    nobody = free_address()
    addresses = dict.fromkeys(["gateway_address", "trainer_address", "evaluator_address"], nobody)
    steersman.configure(**addresses, mlflow_url=f"http://{nobody}", ray_dashboard_url=f"http://{nobody}")
    result = steersman("status", "--json")
    assert result.exit_code == 1
    services = json.loads(result.output)
    assert [service["service"] for service in services] == ["gateway", "trainer", "evaluator", "mlflow", "ray"]
    assert {service["state"] for service in services} == {"not reachable"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["deploy", "cartpole:x"],
            "expected an address like cartpole, cartpole:7 or cartpole@candidate, got 'cartpole:x'",
        ),
        (["act", "cartpole", "[0, "], "expected the observation as JSON, got '[0, '"),
        (["train", "CartPole-v1", "--set", "lr"], "expected NAME=VALUE, such as lr=0.0003, got 'lr'"),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_explained(steersman: CommandLine, arguments: list[str], words: str) -> None:
    result = steersman(*arguments)
    assert result.exit_code == 1
    assert words in result.errors


def test_the_command_line_loads_nothing_heavy() -> None:
    heavy = {"ray", "torch", "mlflow", "gymnasium", "services", "pydantic"}
    script = f"import sys, steersman.cli; print({heavy} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "set()"


def test_settings_are_json_where_they_can_be() -> None:
    parsed = parse_settings(["lr=0.0003", "hiddens=[32, 32]", "activation=relu", "flag=true", "text=a=b"])
    assert parsed == {"lr": 0.0003, "hiddens": [32, 32], "activation": "relu", "flag": True, "text": "a=b"}
    with pytest.raises(InvalidArgumentError):
        parse_settings(["=1"])
