"""The demonstration: trains CartPole, deploys the policy, evaluates what is served. `make demo` runs it.

It goes through the same gRPC services as any client, and takes down only what it brought up itself.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import gymnasium
import typer
from rich.live import Live

from deploy import stack
from deploy.local import attempt, fail, read_settings, status_table
from steersman import PolicyClient
from steersman.cli.connection import call_seconds, connect
from steersman.cli.deployments import wait_until_ready
from steersman.cli.evaluate import print_report, watch_evaluation
from steersman.cli.output import console, progress
from steersman.cli.run_view import describe_return, state_name
from steersman.errors import InternalError
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
            with console.status("Taking down what was brought up ..."):
                stack.stop(settings)
            _say("The stack is down again.")
    if mean < RETURN_TO_PASS:
        fail(f"expected the served policy to have a mean return of at least {RETURN_TO_PASS:g}, got {mean:g}")


def bring_up(settings: Settings) -> bool:
    """Starts the stack if it does not run.

    Returns:
        Whether it was started.
    """
    console.rule("[bold]1. Ray, MLflow, gateway, trainer, evaluator")
    began = time.monotonic()
    with Live(console=console, transient=True, refresh_per_second=8) as live:
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
    console.rule(f"[bold]2. Train {ENVIRONMENT} with PPO until it returns {RETURN_TO_REACH:g}")
    run = train(settings)
    console.rule(f"[bold]3. Deploy {POLICY} version {run.version}")
    deploy(settings, run.version)
    console.rule(f"[bold]4. Evaluate {EPISODES} episodes through the gateway")
    report = evaluate(settings, run.version)
    act_once(settings, run.version)

    path = settings.var_dir / "demo.json"
    write_results(path, run, report)
    _say(f"Written to {path}.")
    return report.mean


def train(settings: Settings) -> trainer_pb2.Run:
    """Trains until the return is reached, with a live view. Interrupted, it stops the run.

    Returns:
        The run, which registered a version.
    """
    spec = trainer_pb2.RunSpec(
        policy=POLICY,
        environment=trainer_pb2.Environment(id=ENVIRONMENT),
        algorithm="PPO",
        stop=trainer_pb2.StopCriteria(episode_return=RETURN_TO_REACH),
    )
    with connect("trainer", settings.trainer_address) as channel, progress() as view:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        task = view.add_task("submitting the run", total=None)
        run = stub.StartRun(trainer_pb2.StartRunRequest(spec=spec), timeout=call_seconds()).run
        try:
            for news in stub.WatchRun(trainer_pb2.WatchRunRequest(id=run.id)):
                if news.HasField("run"):
                    run = news.run
                else:
                    run.latest.CopyFrom(news.iteration)
                view.update(task, description=_describe(run))
        except KeyboardInterrupt:
            # It would go on, and where the stack stays up nothing else would end it.
            stub.StopRun(trainer_pb2.StopRunRequest(id=run.id), timeout=STOP_SECONDS)
            raise
    if run.state != trainer_pb2.RUN_STATE_SUCCEEDED:
        raise InternalError(f"expected run {run.id} to succeed, but it is {state_name(run)}: {run.error}")
    _say(f"{_describe(run)}, after {run.latest.seconds:.1f} s of training; registered as version {run.version}.")
    return run


def deploy(settings: Settings, version: int) -> None:
    """Deploys a version and waits until it answers, with a live view."""
    began = time.monotonic()
    request = deployment_pb2.DeployRequest(policy=POLICY, version=version)
    with connect("gateway", settings.gateway_address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        with progress() as view:
            view.add_task("asking Ray Serve", total=None)
            deployment = stub.Deploy(request, timeout=call_seconds()).deployment
        wait_until_ready(stub, deployment, DEPLOY_SECONDS)
    _say(f"Ready after {time.monotonic() - began:.1f} s.")


def evaluate(settings: Settings, version: int) -> evaluator_pb2.EvaluationReport:
    """Evaluates the version that is served, with a live view."""
    request = evaluator_pb2.EvaluateRequest(policy=f"{POLICY}:{version}", episodes=EPISODES)
    with connect("evaluator", settings.evaluator_address) as channel:
        report = watch_evaluation(evaluator_pb2_grpc.EvaluatorServiceStub(channel), request)
    print_report(report)
    return report


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
            "return": run.published.evaluated_return,
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


def _describe(run: trainer_pb2.Run) -> str:
    """Writes in a line how far a run is."""
    if not run.latest.iteration:
        return state_name(run)
    return (
        f"{state_name(run)}: iteration {run.latest.iteration}, {run.latest.steps:,} steps, "
        f"return {describe_return(run.latest) or 'not known yet'}"
    )


def _say(text: str) -> None:
    """Prints a line, however long."""
    console.print(text, soft_wrap=True, highlight=False)


if __name__ == "__main__":
    typer.run(main)
