"""The demonstration: trains CartPole, deploys the policy, evaluates what is served. `make demo` runs it.

It goes through the same gRPC services as any client, and takes down only what it brought up itself.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import gymnasium
import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy import stack
from deploy.local import attempt, fail, read_settings, status_table
from steersman import PolicyClient
from steersman.errors import FailedPreconditionError, InternalError, from_rpc_error
from steersman.settings import Settings
from steersman.v1 import (
    deployment_pb2,
    deployment_pb2_grpc,
    evaluator_pb2,
    evaluator_pb2_grpc,
    trainer_pb2,
    trainer_pb2_grpc,
)

POLICY = "cartpole"
ENVIRONMENT = "CartPole-v1"
RETURN_TO_REACH = 450.0
RETURN_TO_PASS = 400.0
EPISODES = 20
DEPLOY_SECONDS = 120.0
STOP_SECONDS = 20.0

_console = Console()


def main() -> None:
    """Trains CartPole, deploys the policy, evaluates what is served and writes var/demo.json.

    Starts the local stack if it does not run, and stops it afterwards if it was started here. The exit code is 1 if
    the mean return of the served policy is under 400.
    """
    # Ended in whichever way, it cleans up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = read_settings()
    started = attempt(lambda: bring_up(settings))
    try:
        mean = attempt(lambda: demonstrate(settings))
    finally:
        if started:
            with _console.status("Taking down what was brought up ..."):
                stack.stop(settings)
            _say("The stack is down again.")
    if mean < RETURN_TO_PASS:
        fail(f"expected the served policy to have a mean return of at least {RETURN_TO_PASS:g}, got {mean:g}")


def bring_up(settings: Settings) -> bool:
    """Starts the stack if it does not run.

    Returns:
        Whether it was started.
    """
    _console.rule("[bold]1. Ray, MLflow, gateway, trainer, evaluator")
    began = time.monotonic()
    with Live(console=_console, transient=True, refresh_per_second=8) as live:
        started = stack.start(settings, watch=lambda states: live.update(status_table(states)))
    what = f"up in {time.monotonic() - began:.0f} s" if started else "up already, and will stay up"
    _say(f"The stack is {what}.")
    return started


def demonstrate(settings: Settings) -> float:
    """Trains, deploys, evaluates and acts, over gRPC.

    Args:
        settings: Where the services are.

    Returns:
        The mean return of the served policy.

    Raises:
        steersman.errors.SteersmanError: If a step fails.
    """
    _console.rule(f"[bold]2. Train {ENVIRONMENT} with PPO until it returns {RETURN_TO_REACH:g}")
    run = train(settings)
    _console.rule(f"[bold]3. Deploy {POLICY} version {run.version}")
    deploy(settings, run.version)
    _console.rule(f"[bold]4. Evaluate {EPISODES} episodes through the gateway")
    report = evaluate(settings, run.version)
    _console.print(report_table(run, report))
    act_once(settings, run.version)

    path = settings.var_dir / "demo.json"
    write_results(path, run, report)
    _say(f"Written to {path}.")
    return report.mean


def train(settings: Settings) -> trainer_pb2.Run:
    """Trains until the return is reached, showing every iteration.

    Returns:
        The run, which registered a version.
    """
    spec = trainer_pb2.RunSpec(
        policy=POLICY,
        environment=trainer_pb2.Environment(id=ENVIRONMENT),
        algorithm="PPO",
        stop=trainer_pb2.StopCriteria(episode_return=RETURN_TO_REACH),
    )
    with _calling(settings.trainer_address) as channel, _progress() as progress:
        trainer = trainer_pb2_grpc.TrainerServiceStub(channel)
        task = progress.add_task("submitting the run", total=None)
        run = trainer.StartRun(trainer_pb2.StartRunRequest(spec=spec)).run
        try:
            for news in trainer.WatchRun(trainer_pb2.WatchRunRequest(id=run.id)):
                if news.HasField("run"):
                    run = news.run
                    progress.update(task, description=_state(run))
                else:
                    progress.update(task, description=_iteration(news.iteration))
        except KeyboardInterrupt:
            # It would go on, and where the stack stays up nothing else would end it.
            trainer.StopRun(trainer_pb2.StopRunRequest(id=run.id), timeout=STOP_SECONDS)
            raise
    if run.state != trainer_pb2.RUN_STATE_SUCCEEDED:
        raise InternalError(f"expected the run {run.id} to succeed, but it is {_state(run)}: {run.error}")
    _say(f"{_iteration(run.latest)}; registered as version {run.version}.")
    return run


def deploy(settings: Settings, version: int) -> None:
    """Deploys a version and waits until every replica has it."""
    with _calling(settings.gateway_address) as channel, _progress() as progress:
        deployments = deployment_pb2_grpc.DeploymentServiceStub(channel)
        task = progress.add_task("asking Ray Serve", total=None)
        began = time.monotonic()
        deployment = deployments.Deploy(deployment_pb2.DeployRequest(policy=POLICY, version=version)).deployment
        while deployment.state != deployment_pb2.DEPLOYMENT_STATE_READY:
            if deployment.state == deployment_pb2.DEPLOYMENT_STATE_FAILED:
                raise InternalError(f"{POLICY} version {version} could not be deployed: {deployment.message}")
            if time.monotonic() > began + DEPLOY_SECONDS:
                raise FailedPreconditionError(
                    f"expected {POLICY} version {version} to be ready within {DEPLOY_SECONDS:g} s: {deployment.message}"
                )
            progress.update(task, description=deployment.message or "waiting for the replica")
            time.sleep(0.2)
            listed = deployments.ListDeployments(deployment_pb2.ListDeploymentsRequest()).deployments
            deployment = next(each for each in listed if each.policy == POLICY)
    _say(f"Ready after {time.monotonic() - began:.1f} s.")


def evaluate(settings: Settings, version: int) -> evaluator_pb2.EvaluationReport:
    """Evaluates the version that is served, showing the episodes."""
    request = evaluator_pb2.EvaluateRequest(policy=f"{POLICY}:{version}", episodes=EPISODES)
    with _calling(settings.evaluator_address) as channel, _progress() as progress:
        task = progress.add_task("episodes", total=EPISODES)
        for news in evaluator_pb2_grpc.EvaluatorServiceStub(channel).Evaluate(request):
            if news.HasField("report"):
                return news.report
            progress.update(task, completed=news.progress.episodes_done)
    raise InternalError("expected a report at the end of the evaluation, got none")


def report_table(run: trainer_pb2.Run, report: evaluator_pb2.EvaluationReport) -> Table:
    """Draws the results."""
    table = Table(title=f"{report.policy} version {report.version} in {report.environment_id}", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    latency = report.action_latency_milliseconds
    for name, value in (
        ("training iterations", f"{run.latest.iteration}"),
        ("training seconds", f"{run.latest.seconds:.1f}"),
        ("return confirmed by the trainer", f"{run.latest.evaluated_return:.1f}"),
        ("served: episodes", f"{len(report.episodes)}"),
        ("served: mean return", f"{report.mean:.1f}"),
        ("served: 95% interval of the mean", f"{report.mean_interval.low:.1f} to {report.mean_interval.high:.1f}"),
        ("served: interquartile mean", f"{report.interquartile_mean:.1f}"),
        ("served: smallest return", f"{report.minimum:.1f}"),
        ("action latency, median", f"{latency.p50:.2f} ms"),
        ("action latency, 99th percentile", f"{latency.p99:.2f} ms"),
    ):
        table.add_row(name, value)
    return table


def act_once(settings: Settings, version: int) -> None:
    """Asks for one action, as a client does."""
    observation, _ = gymnasium.make(ENVIRONMENT).reset(seed=0)
    with PolicyClient(f"{POLICY}:{version}", address=settings.gateway_address) as client:
        action = client.act(observation)
    _say(f"Observation {observation.tolist()}: action {action}.")


def write_results(path: Path, run: trainer_pb2.Run, report: evaluator_pb2.EvaluationReport) -> None:
    """Writes the results as JSON."""
    latency = report.action_latency_milliseconds
    results = {
        "train": {
            "iterations": run.latest.iteration,
            "return": run.latest.evaluated_return,
            "seconds": run.latest.seconds,
        },
        "evaluation": {
            "episodes": len(report.episodes),
            "mean": report.mean,
            "iqm": report.interquartile_mean,
            "ci95": [report.mean_interval.low, report.mean_interval.high],
            "min": report.minimum,
            "action_latency_ms": {"p50": latency.p50, "p99": latency.p99},
        },
        "policy": report.policy,
        "version": report.version,
    }
    path.write_text(json.dumps(results, indent=2) + "\n")


@contextmanager
def _calling(address: str) -> Iterator[grpc.Channel]:
    """Opens a channel, and turns failed calls into our errors."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


def _say(text: str) -> None:
    """Prints a line, however long."""
    _console.print(text, soft_wrap=True, highlight=False)


def _progress() -> Progress:
    """Makes a progress view of one line."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_console,
        transient=True,
    )


def _state(run: trainer_pb2.Run) -> str:
    """Names a run's state."""
    return trainer_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()


def _iteration(iteration: trainer_pb2.Iteration) -> str:
    """Describes an iteration in a line."""
    words = [f"iteration {iteration.iteration}", f"{iteration.steps:,} steps"]
    if iteration.HasField("training_return"):
        words.append(f"training return {iteration.training_return:.0f}")
    if iteration.HasField("evaluated_return"):
        words.append(f"evaluated return {iteration.evaluated_return:.0f}")
    return ", ".join(words)


if __name__ == "__main__":
    typer.run(main)
