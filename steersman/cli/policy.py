"""`steersman policy show`: what is inside a version of a policy."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from google.protobuf import json_format
from rich import box
from rich.table import Table
from rich.text import Text

from steersman import spaces, tensors
from steersman.cli.connection import call_seconds, configured, connect
from steersman.cli.output import JsonOption, console, plain, print_json, say
from steersman.cli.timeout import with_timeout
from steersman.environments.choice import described, trained_in
from steersman.errors import NotFoundError
from steersman.policy_names import names_a_version, parse_address
from steersman.v1 import common_pb2, policy_pb2, policy_pb2_grpc

app = typer.Typer(help="Look inside policies.", no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Keeps `show` a command of its own, though it is the only one so far."""


@app.command()
@with_timeout
def show(
    address: Annotated[
        str, typer.Argument(metavar="POLICY[:VERSION]", help="The version that answers if none is named.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Shows what a served version takes and gives, what its model is made of, and where it comes from.

    Examples:
        steersman policy show cartpole

        steersman policy show cartpole:3 --json
    """
    name = parse_address(address).policy
    with connect("gateway", configured().gateway_address) as channel:
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        policy = stub.GetPolicy(policy_pb2.GetPolicyRequest(policy=address), timeout=call_seconds()).policy
    version = _choose(policy, address)
    provenance = json_format.MessageToDict(version.provenance)
    if as_json:
        print_json({"policy": name} | plain(version) | {"provenance": provenance})
        return
    spec = version.spec
    environment = described(trained_in(spec)) if spec.environment_id else "no environment"
    say(f"{name}:{version.version} ({spec.algorithm or 'unknown algorithm'}, {environment})")
    _print_facts("Takes", _tensor_facts(spec.observation_tensors, spaces.describe(spec.observation_space)))
    if spec.state_tensors:
        _print_facts("Remembers", _tensor_facts(spec.state_tensors, "from step to step, zeros at first"))
    _print_facts("Gives", _tensor_facts(spec.action_tensors, spaces.describe(spec.action_space)))
    _print_facts("Chooses", _distribution_facts(spec))
    _print_facts("Model", _model_facts(version.model, spec.model_sha256))
    _print_facts("Comes from", list(_flat(provenance)))


def _choose(policy: policy_pb2.Policy, address: str) -> policy_pb2.PolicyVersion:
    """Picks the version that an address means."""
    # For an address that names a version the gateway lists that version alone.
    wanted = policy.versions[0].version if names_a_version(address) and policy.versions else policy.default_version
    for version in policy.versions:
        if version.version == wanted:
            return version
    raise NotFoundError(f"expected policy {address!r} to have a version that answers, got none")


def _tensor_facts(specs: Any, summary: str) -> list[tuple[str, str]]:  # noqa: ANN401 - protobuf's repeated container has no public name
    return [("", summary), *((spec.name, tensors.describe(spec.dtype, spec.shape)) for spec in specs)]


def _distribution_facts(spec: common_pb2.PolicySpec) -> list[tuple[str, str]]:
    facts = []
    for tensor, distribution in zip(spec.action_tensors, spec.action_distributions, strict=False):
        details = [f"{distribution.parameters} parameters"] if distribution.parameters else []
        if distribution.transform not in ("", "none"):
            details.append(distribution.transform)
        facts.append((tensor.name, ", ".join([distribution.kind, *details])))
    extras = ", ".join(extra.name for extra in spec.extra_tensors)
    return [*facts, ("besides, if asked", extras or "nothing")]


def _model_facts(model: common_pb2.ModelDescription, sha256: str) -> list[tuple[str, str]]:
    operators = ", ".join(f"{operator.count} {operator.name}" for operator in model.operators)
    return [
        ("parameters", f"{model.parameters:,}"),
        ("size", f"{model.bytes / 1e6:.2f} MB"),
        ("format", f"ONNX {model.ir_version}, operators of version {model.opset_version}"),
        ("operators", operators),
        ("SHA-256", sha256),
    ]


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Lists nested values by their path."""
    facts: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            facts += _flat(value, f"{before}{key}.")
        else:
            whole = isinstance(value, float) and value.is_integer()
            facts.append((f"{before}{key}", str(int(value) if whole else value)))
    return facts


def _print_facts(title: str, facts: list[tuple[str, str]]) -> None:
    if not facts:
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), Text(value))
    console.print(table)
