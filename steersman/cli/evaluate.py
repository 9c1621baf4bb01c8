"""`steersman evaluate`: how good a served policy is."""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf import json_format

from steersman.cli.connection import configured, connect, events, numbers_that_fit
from steersman.cli.output import JsonOption, plain, print_json, print_table, progress
from steersman.cli.train import parse_settings
from steersman.errors import InternalError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc


def evaluate(
    policy: Annotated[str, typer.Argument(metavar="POLICY[:VERSION]", help="Which policy.")],
    episodes: Annotated[int, typer.Option(min=1, help="Episodes to play.")] = 20,
    environment: Annotated[str, typer.Option(help="Gymnasium id. Default: the one that it was trained in.")] = "",
    environment_setting: Annotated[
        list[str] | None,
        typer.Option("--environment-set", metavar="NAME=VALUE", help="Argument of the environment; may be repeated."),
    ] = None,
    num_environments: Annotated[int, typer.Option(min=0, help="Environments side by side; 0: up to 64.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Episode i is reset with seed + i.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Plays episodes against a served policy and reports on them. Ctrl-C stops the evaluation.

    Examples:
        steersman evaluate cartpole --episodes 100

        steersman evaluate cartpole:3 --environment-set max_episode_steps=1000 --json
    """
    with numbers_that_fit():
        request = evaluator_pb2.EvaluateRequest(
            policy=policy, environment_id=environment, episodes=episodes, num_environments=num_environments, seed=seed
        )
    json_format.ParseDict(parse_settings(environment_setting or []), request.environment_kwargs)
    with connect("evaluator", configured().evaluator_address) as channel:
        report = watch_evaluation(evaluator_pb2_grpc.EvaluatorServiceStub(channel), request)
    if as_json:
        print_json(plain(report))
    else:
        print_report(report)


def watch_evaluation(
    stub: evaluator_pb2_grpc.EvaluatorServiceStub, request: evaluator_pb2.EvaluateRequest
) -> evaluator_pb2.EvaluationReport:
    """Evaluates with a live view. Ctrl-C stops the evaluation.

    Args:
        stub: The evaluator.
        request: What to evaluate.

    Raises:
        InternalError: If the evaluator ends without a report.
    """
    with progress() as view:
        task = view.add_task(f"evaluating {request.policy}", total=request.episodes or None)
        for event in events(stub.Evaluate(request)):
            if event.HasField("report"):
                return event.report
            done = event.progress
            so_far = f", mean {done.mean_return:.1f} so far" if done.HasField("mean_return") else ""
            view.update(
                task,
                total=done.episodes_total,
                completed=done.episodes_done,
                description=f"{done.episodes_done} of {done.episodes_total} episodes, {done.steps:,} steps{so_far}",
            )
    raise InternalError("expected a report at the end of the evaluation, got none")


def print_report(report: evaluator_pb2.EvaluationReport) -> None:
    """Prints a report as a table."""
    interval, latency = report.mean_interval, report.action_latency_milliseconds
    rows: list[tuple[str, object]] = [
        ("policy", f"{report.policy}:{report.version}"),
        ("environment", report.environment_id),
        ("episodes", len(report.episodes)),
        ("mean return", f"{report.mean:.2f} (95% interval {interval.low:.2f} to {interval.high:.2f})"),
        ("median", f"{report.median:.2f}"),
        ("interquartile mean", f"{report.interquartile_mean:.2f}"),
        ("minimum", f"{report.minimum:.2f}"),
        ("action latency", f"p50 {latency.p50:.2f} ms, p99 {latency.p99:.2f} ms"),
        ("steps", f"{report.steps:,} in {report.seconds:.1f} s"),
        ("model", f"{report.model_sha256[:16]}..."),
    ]
    print_table("Evaluation", ("", ""), rows, "")
