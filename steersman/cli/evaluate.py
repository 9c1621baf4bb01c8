"""`steersman evaluate`: how good a served policy is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.progress import Progress, TaskID

from steersman.cli import panels
from steersman.cli.connection import configured, connect, events, numbers_that_fit
from steersman.cli.disturbances import parse_disturbance, print_curves
from steersman.cli.episode_limits import LongestEpisodeOption, LongestSecondsOption
from steersman.cli.output import JsonOption, plain, print_json, print_table, progress
from steersman.cli.own_code import (
    AsGivenOption,
    EnvironmentOption,
    EnvironmentSetOption,
    PyModuleOption,
    WorkingDirOption,
    WrapperOption,
    add_environment,
    code_from,
    environment_rows,
)
from steersman.cli.shadow import evaluate_shadow
from steersman.cli.suite import read_suite, run_suite
from steersman.errors import InternalError, InvalidArgumentError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc

_LONG = 1000
"""Steps from which on an episode in progress is named."""


def evaluate(
    policy: Annotated[
        str, typer.Argument(metavar="POLICY[:VERSION]", help="Which policy; none with --suite.", show_default=False)
    ] = "",
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to play.")] = 20,
    environment: EnvironmentOption = "",
    environment_setting: EnvironmentSetOption = None,
    as_given: AsGivenOption = False,
    num_environments: Annotated[
        int, typer.Option(min=0, help="Environments side by side; 0: up to 64.", rich_help_panel=panels.RESOURCES)
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Episode i is reset with seed + i.")] = 0,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help='What else plays the same episodes: "sampled", "random", "constant" or a policy; may be repeated.'
        ),
    ] = None,
    step_timeout: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds that an environment may take for a step; 0 for the evaluator's setting.",
            rich_help_panel=panels.RESOURCES,
        ),
    ] = 0.0,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Processes that play; 0 for as many as make sense.", rich_help_panel=panels.RESOURCES),
    ] = 0,
    on_cluster: Annotated[
        bool,
        typer.Option(
            "--on-cluster",
            help="Play in Ray tasks instead of processes of the evaluator's machine.",
            rich_help_panel=panels.RESOURCES,
        ),
    ] = False,
    suite: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with policies and environments; gives one table. See docs.",
            rich_help_panel=panels.OTHER_EVALUATIONS,
        ),
    ] = None,
    disturb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHAT=STRENGTH,...",
            help="Play again in harder environments: noise=DEVIATION of observations, drop=PROBABILITY and delay=STEPS "
            "of actions, or an attribute and its factors, such as gravity=0.5,2; may be repeated.",
            rich_help_panel=panels.DISTURBANCES,
        ),
    ] = None,
    video: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Film so many episodes; 3 are the best, the median and the worst. Needs --keep.",
            rich_help_panel=panels.DISTURBANCES,
        ),
    ] = 0,
    longest_episode: LongestEpisodeOption = 0,
    longest_seconds: LongestSecondsOption = 0.0,
    wrapper: WrapperOption = None,
    working_dir: WorkingDirOption = "",
    py_module: PyModuleOption = None,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow",
            help="Play nothing, but tell how the route's shadow does with copies of live requests.",
            rich_help_panel=panels.OTHER_EVALUATIONS,
        ),
    ] = False,
    seconds: Annotated[
        float,
        typer.Option(min=0, help="With --shadow: for how long; 0 for 60.", rich_help_panel=panels.OTHER_EVALUATIONS),
    ] = 0.0,
    compared: Annotated[
        int,
        typer.Option(
            min=0,
            help="With --shadow: or until so many requests are compared.",
            rich_help_panel=panels.OTHER_EVALUATIONS,
        ),
    ] = 0,
    keep: Annotated[bool, typer.Option(help="Keep the report with the policy's version in MLflow.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Plays episodes against a served policy and reports on them. Ctrl-C stops the evaluation.

    Examples:
        steersman evaluate cartpole --episodes 100

        steersman evaluate cartpole:3 --environment-set max_episode_steps=1000 --json

        steersman evaluate cartpole --against sampled --against random --against cartpole:2

        steersman evaluate cartpole --video 3 --disturb noise=0.1,0.3 --disturb gravity=0.5,2

        steersman evaluate cartpole --shadow --seconds 600

        steersman evaluate --suite nightly.toml
    """
    if bool(policy) == (suite is not None):
        raise InvalidArgumentError("expected either a policy or --suite FILE")
    if suite is not None:
        run_suite(read_suite(suite), _evaluate, keep=keep, as_json=as_json)
        return
    if shadow:
        evaluate_shadow(
            evaluator_pb2.EvaluateShadowRequest(policy=policy, seconds=seconds, compared=compared), as_json=as_json
        )
        return
    with numbers_that_fit():
        request = evaluator_pb2.EvaluateRequest(
            policy=policy,
            episodes=episodes,
            num_environments=num_environments,
            seed=seed,
            references=against or [],
            step_timeout_seconds=step_timeout,
            num_workers=workers,
            record=keep,
            videos=video,
            on_cluster=on_cluster,
            disturbances=map(parse_disturbance, disturb or []),
            longest_episode_steps=longest_episode,
            longest_seconds=longest_seconds,
            code=code_from(working_dir, py_module),
        )
    add_environment(request, environment, environment_setting, wrapper, as_given=as_given)
    with connect("evaluator", configured().evaluator_address) as channel:
        stub = evaluator_pb2_grpc.EvaluatorServiceStub(channel)
        report = watch_evaluation(stub, request, partial=functools.partial(_print, as_json=as_json))
    _print(report, as_json=as_json)


def _evaluate(request: evaluator_pb2.EvaluateRequest) -> evaluator_pb2.EvaluationReport:
    with connect("evaluator", configured().evaluator_address) as channel:
        return watch_evaluation(evaluator_pb2_grpc.EvaluatorServiceStub(channel), request)


def watch_evaluation(
    stub: evaluator_pb2_grpc.EvaluatorServiceStub,
    request: evaluator_pb2.EvaluateRequest,
    partial: Callable[[evaluator_pb2.EvaluationReport], None] = lambda _: None,
) -> evaluator_pb2.EvaluationReport:
    """Evaluates with a live view. Ctrl-C stops the evaluation.

    Args:
        stub: The evaluator.
        request: What to evaluate.
        partial: Takes the report of an evaluation that ended early, before its error is raised.

    Raises:
        InternalError: If the evaluator ends without a report.
    """
    report: evaluator_pb2.EvaluationReport | None = None
    try:
        with progress() as view:
            task = view.add_task(f"evaluating {request.policy}", total=request.episodes or None)
            for event in events(stub.Evaluate(request)):
                if event.HasField("report"):
                    report = event.report
                else:
                    show_progress(view, task, event.progress)
    except grpc.RpcError:
        if report is not None:
            partial(report)
        raise
    if report is None:
        raise InternalError("expected a report at the end of the evaluation, got none")
    return report


def show_progress(view: Progress, task: TaskID, done: evaluator_pb2.EvaluationProgress) -> None:
    """Shows how far an evaluation is."""
    # Only of an episode that may have no end is it worth knowing.
    longest = (
        f", {done.longest_episode_steps:,} of them in episode {done.longest_episode}, which goes on"
        if done.longest_episode_steps > _LONG
        else ""
    )
    so_far = f", mean {done.mean_return:.1f} so far" if done.HasField("mean_return") else ""
    view.update(
        task,
        total=done.episodes_total,
        completed=done.episodes_done,
        description=f"{done.episodes_done} of {done.episodes_total} episodes, {done.steps:,} steps{longest}{so_far}",
    )


def print_report(report: evaluator_pb2.EvaluationReport) -> None:
    """Prints a report as a table, and its references as another one."""
    interval, latency = report.mean_interval, report.action_latency_milliseconds
    rows: list[tuple[str, object]] = [
        ("policy", f"{report.policy}:{report.version}"),
        *environment_rows(report),
        ("episodes", f"{len(report.episodes)}{', partial: ' + report.problem if report.partial else ''}"),
        ("mean return", f"{report.mean:.2f} (95% interval {interval.low:.2f} to {interval.high:.2f})"),
        ("median", f"{report.median:.2f}"),
        ("interquartile mean", f"{report.interquartile_mean:.2f}"),
        ("standard deviation", f"{report.standard_deviation:.2f}"),
        ("5th percentile", f"{report.percentile_5:.2f}"),
        ("minimum", f"{report.minimum:.2f}"),
    ]
    if report.HasField("success_rate"):
        rows.append(("success rate", f"{100 * report.success_rate:.1f}%"))
    rows += [
        ("ended", f"{report.terminated} terminated, {report.truncated} truncated, {report.cut} cut"),
        ("action latency", f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms"),
        ("requests", f"{report.requests:,}, {report.failed_requests:,} of them failed"),
        ("steps", f"{report.steps:,} in {report.seconds:.1f} s"),
        ("model", f"{report.model_sha256[:16]}..."),
    ]
    if report.artifact_uri:
        rows.append(("kept in", report.artifact_uri))
    for film in report.videos:
        words = "" if film.exact else f", not the same again: return {film.episode_return:.2f}"
        rows.append((f"episode {film.episode} on film", f"{' and '.join(film.files)}{words}"))
    print_table("Evaluation", ("", ""), rows, "")
    if report.references:
        _print_references(report)
    if report.robustness:
        print_curves(report)


def _print_references(report: evaluator_pb2.EvaluationReport) -> None:
    rows = [
        (
            reference.name,
            f"{reference.mean:.2f}",
            f"{reference.mean_interval.low:.2f} to {reference.mean_interval.high:.2f}",
            f"{reference.interquartile_mean:.2f}",
            f"{100 * reference.probability_of_improvement:.1f}%",
        )
        for reference in report.references
    ]
    columns = ("the same episodes, played by", "mean", "95% interval", "interquartile mean", "policy better in")
    print_table("References", columns, rows, "")


def _print(report: evaluator_pb2.EvaluationReport, *, as_json: bool) -> None:
    if as_json:
        print_json(plain(report))
    else:
        print_report(report)
