"""`steersman route`, `alias`, `promote`, `rollback` and `audit`: which version gets which traffic, and who said so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from steersman.arguments import set_kwargs
from steersman.cli import panels
from steersman.cli.changes import make_change
from steersman.cli.compare import ReturnBoundsOption, parse_bounds
from steersman.cli.connection import call_seconds, configured, connect, numbers_that_fit
from steersman.cli.deployments import route_in_words
from steersman.cli.episode_limits import LongestEpisodeOption, LongestSecondsOption
from steersman.cli.gate import evidence_of_improvement
from steersman.cli.output import JsonOption, RevisionOption, plain, print_json, print_table, say
from steersman.cli.own_code import (
    AsGivenOption,
    EnvironmentOption,
    EnvironmentSetOption,
    PyModuleOption,
    WorkingDirOption,
    WrapperOption,
    code_from,
)
from steersman.cli.train import parse_settings, parse_wrapper
from steersman.errors import InvalidArgumentError
from steersman.policy_names import parse_address, parse_version
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, evaluator_pb2, trainer_pb2

Policy = Annotated[str, typer.Argument(help="The policy.")]


def route(
    policy: Policy,
    weights: Annotated[
        list[str], typer.Argument(metavar="VERSION=WEIGHT...", help="Versions and their parts of the traffic.")
    ],
    shadow: Annotated[
        str, typer.Option(metavar="VERSION=SHARE", help="A version that gets copies of this share of the requests.")
    ] = "",
    tolerance: Annotated[
        float, typer.Option(min=0, help="By how much a continuous action of the shadow may differ; 0 for the default.")
    ] = 0.0,
    revision: RevisionOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Splits a policy's traffic over versions; episodes stay with the version that they began with.

    The shadow's answers are compared with those that were given, and thrown away. `steersman policies --json` has the
    counts.

    Examples:
        steersman route cartpole 7=90 8=10

        steersman route cartpole 7=1 --shadow 8=0.05
    """
    with numbers_that_fit():
        wanted = deployment_pb2.Route()
        for entry in weights:
            version, weight = _pair(entry, "7=90")
            wanted.weights.add(version=version, weight=weight)
        if shadow:
            version, share = _pair(shadow, "8=0.05")
            wanted.shadow.CopyFrom(deployment_pb2.Shadow(version=version, share=share, tolerance=tolerance))
        request = deployment_pb2.SetRouteRequest(policy=policy, route=wanted, expected_revision=revision)
    with _gateway() as stub:
        deployment = make_change(stub.SetRoute, request).deployment
    _print(deployment, as_json)


def alias(
    address: Annotated[str, typer.Argument(metavar="POLICY[:VERSION]", help="No version takes the alias away.")],
    name: Annotated[str, typer.Argument(help="The alias.")],
    revision: RevisionOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Points an alias at a version, so that clients can ask for POLICY@ALIAS.

    Example:
        steersman alias cartpole:8 candidate
    """
    policy, version = parse_version(address)
    with numbers_that_fit():
        request = deployment_pb2.SetAliasRequest(policy=policy, alias=name, version=version, expected_revision=revision)
    with _gateway() as stub:
        deployment = make_change(stub.SetAlias, request).deployment
    if as_json:
        print_json(plain(deployment))
    else:
        say(f"{policy}@{name} is version {version}." if version else f"{policy}@{name} is gone.")


def promote(
    address: Annotated[str, typer.Argument(metavar="POLICY:VERSION|POLICY@ALIAS", help="What to promote.")],
    alias: Annotated[str, typer.Option(help="The alias that moves there.")] = "champion",
    if_better_than: Annotated[
        str,
        typer.Option(
            metavar="ALIAS|VERSION",
            help="Only if it proves to be better than this one.",
            rich_help_panel=panels.STATISTICS,
        ),
    ] = "",
    episodes: Annotated[
        int,
        typer.Option(
            min=1,
            help="The most that each plays to prove it; from 160 on, with bounds from 1.",
            rich_help_panel=panels.STATISTICS,
        ),
    ] = 640,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of the first of those episodes. Default: drawn, so that they are new to both.",
            rich_help_panel=panels.STATISTICS,
        ),
    ] = None,
    return_bounds: ReturnBoundsOption = "",
    environment: EnvironmentOption = "",
    environment_setting: EnvironmentSetOption = None,
    as_given: AsGivenOption = False,
    wrapper: WrapperOption = None,
    working_dir: WorkingDirOption = "",
    py_module: PyModuleOption = None,
    longest_episode: LongestEpisodeOption = 0,
    longest_seconds: LongestSecondsOption = 0.0,
    revision: RevisionOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Moves an alias and all traffic to a version.

    With --if-better-than both are evaluated on the same seeds, until it is clear which one is better, where
    the one to be promoted was trained. If it is not better, or that cannot be told, nothing changes, and the
    exit code is 1.

    Examples:
        steersman promote cartpole@candidate

        steersman promote cartpole:8 --if-better-than champion

        steersman promote cartpole:8 --alias stable
    """
    policy, version, from_alias = parse_address(address)
    why = ""
    if if_better_than:
        with numbers_that_fit():
            asked = evaluator_pb2.GateRequest(
                candidate=address,
                than=if_better_than,
                episodes=episodes,
                seed=seed,
                return_bounds=parse_bounds(return_bounds),
                environment=trainer_pb2.Environment(id=environment, wrappers=map(parse_wrapper, wrapper or [])),
                environment_as_given=as_given,
                code=code_from(working_dir, py_module),
                longest_episode_steps=longest_episode,
                longest_seconds=longest_seconds,
            )
        set_kwargs(asked.environment, parse_settings(environment_setting or []))
        decision = evidence_of_improvement(asked)
        # Just the version that was compared, and only if nobody has changed anything meanwhile.
        version, from_alias, revision = decision.version, "", revision or decision.revision
        why = decision.reason
    with numbers_that_fit():
        request = deployment_pb2.PromoteRequest(
            policy=policy,
            version=version,
            from_alias=from_alias,
            alias=alias,
            expected_revision=revision,
            reason=why,
        )
    with _gateway() as stub:
        deployment = make_change(stub.Promote, request).deployment
    _print(deployment, as_json)


def rollback(policy: Policy, revision: RevisionOption = 0, as_json: JsonOption = False) -> None:
    """Goes back to the route before; once more, to the one before that. Aliases stay where they are.

    Example:
        steersman rollback cartpole
    """
    with numbers_that_fit():
        request = deployment_pb2.RollbackRequest(policy=policy, expected_revision=revision)
    with _gateway() as stub:
        deployment = make_change(stub.Rollback, request).deployment
    _print(deployment, as_json)


def audit(
    policy: Annotated[str, typer.Argument(help="The policy; all if none is named.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Lists who changed what, the latest first.

    Example:
        steersman audit cartpole --limit 5
    """
    request = deployment_pb2.ListAuditRequest(policy=policy, limit=limit)
    with _gateway() as stub:
        records = stub.ListAudit(request, timeout=call_seconds()).records
    if as_json:
        print_json([plain(record) for record in records])
        return
    rows = [
        (
            record.time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S"),
            record.actor,
            record.action,
            record.policy,
            record.revision,
            record.before,
            record.after,
            record.reason,
        )
        for record in records
    ]
    columns = ("time (UTC)", "who", "what", "policy", "revision", "from", "to", "why")
    print_table("Changes", columns, rows, "Nothing was changed yet.")


@contextmanager
def _gateway() -> Iterator[deployment_pb2_grpc.DeploymentServiceStub]:
    with connect("gateway", configured().gateway_address) as channel:
        yield deployment_pb2_grpc.DeploymentServiceStub(channel)


def _pair(text: str, example: str) -> tuple[int, float]:
    version, _, number = text.partition("=")
    try:
        return int(version), float(number)
    except ValueError:
        raise InvalidArgumentError(f"expected a version and a number like {example}, got {text!r}") from None


def _print(deployment: deployment_pb2.Deployment, as_json: bool) -> None:
    if as_json:
        print_json(plain(deployment))
    else:
        say(f"{deployment.policy} goes to {route_in_words(deployment)} (revision {deployment.revision}).")
