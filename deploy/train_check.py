"""Trains every algorithm with its defaults and tells whether it has learnt: `make train-check`.

It goes through the same services as any client. Algorithms that learn from recordings get those of two policies that
were trained just before, played through the gateway.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import gymnasium
import typer
from rich.table import Table

from deploy import stack
from deploy.demo import bring_up
from deploy.local import attempt, fail, read_settings
from steersman import PolicyClient
from steersman.cli.connection import call_seconds, connect
from steersman.cli.deployments import wait_until_ready
from steersman.cli.output import console, progress
from steersman.cli.runs import watch_run
from steersman.errors import SteersmanError
from steersman.policy_names import policy_name
from steersman.recording import FILE, record
from steersman.settings import Settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, trainer_pb2, trainer_pb2_grpc

CARTPOLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
DEPLOY_SECONDS = 120.0


@dataclass(frozen=True)
class Check:
    """What an algorithm has to learn with its defaults.

    Attributes:
        algorithm: The algorithm.
        environment: Where.
        wanted: The mean return over greedy episodes that it has to reach. A random policy has 22 in CartPole, whose
            most is 500, and -1200 in Pendulum, where -150 is as good as it gets.
        seconds: Of training, after which it is given up.
        learns_from_recordings: Whether it gets a dataset.
    """

    algorithm: str
    environment: str
    wanted: float
    seconds: float
    learns_from_recordings: bool = False

    @property
    def policy(self) -> str:
        """What its versions are named."""
        return f"check-{self.algorithm.lower()}-{policy_name(self.environment)}"


# The teachers come first.
CHECKS = (
    Check("PPO", CARTPOLE, 450, 180),
    Check("SAC", PENDULUM, -250, 400),
    Check("APPO", CARTPOLE, 450, 240),
    Check("IMPALA", CARTPOLE, 400, 240),
    Check("DQN", CARTPOLE, 300, 400),
    Check("TQC", PENDULUM, -250, 500),
    Check("BC", CARTPOLE, 400, 120, learns_from_recordings=True),
    Check("MARWIL", CARTPOLE, 400, 120, learns_from_recordings=True),
    Check("CQL", PENDULUM, -400, 240, learns_from_recordings=True),
    Check("IQL", PENDULUM, -400, 240, learns_from_recordings=True),
)


@dataclass(frozen=True)
class Dataset:
    """How a teacher's episodes are recorded.

    Attributes:
        episodes: How many.
        random_share: Share of random actions, without which there is nothing to compare the teacher's with.
    """

    episodes: int
    random_share: float


DATASETS = {CARTPOLE: Dataset(40, 0.1), PENDULUM: Dataset(100, 0.3)}


@dataclass(frozen=True)
class Outcome:
    """How a check went.

    Attributes:
        check: The check.
        run: Its run, in its final state.
        reached: The mean return over greedy episodes; None if the run has none.
        seconds: From asking for the run to its end.
    """

    check: Check
    run: trainer_pb2.Run
    reached: float | None
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether it has learnt."""
        return self.reached is not None and self.reached >= self.check.wanted


def main(
    algorithm: Annotated[list[str] | None, typer.Option(help="Only this algorithm; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the runs.")] = 0,
) -> None:
    """Trains every algorithm with its defaults until it has learnt, and prints a table. Takes about half an hour.

    Starts the local stack if it does not run, and stops it afterwards if it was started here. The exit code is 1 if one
    of them has not learnt.
    """
    # Ended in whichever way, it cleans up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = [check for check in CHECKS if not algorithm or check.algorithm in algorithm]
    settings = read_settings()
    started = attempt(lambda: bring_up(settings))
    try:
        outcomes = attempt(lambda: [run_check(settings, check, seed) for check in with_teachers(chosen)])
    finally:
        if started:
            stack.stop(settings)
    console.print(table(outcomes))
    if missed := [outcome.check.algorithm for outcome in outcomes if not outcome.holds]:
        fail(f"expected every algorithm to learn, {', '.join(missed)} did not")


def with_teachers(chosen: Sequence[Check]) -> list[Check]:
    """Adds the checks whose policies are the teachers of those that learn from recordings."""
    taught = {check.environment for check in chosen if check.learns_from_recordings}
    return [check for check in CHECKS if check in chosen or (check in CHECKS[:2] and check.environment in taught)]


def run_check(settings: Settings, check: Check, seed: int) -> Outcome:
    """Trains one algorithm.

    Raises:
        steersman.errors.SteersmanError: If the run is refused, or a service cannot be reached.
    """
    console.print(f"[bold]{check.algorithm}[/bold] in {check.environment}, until it returns {check.wanted:g}")
    dataset = str(recorded(settings, check.environment)) if check.learns_from_recordings else ""
    spec = trainer_pb2.RunSpec(
        policy=check.policy,
        environment=trainer_pb2.Environment(id=check.environment),
        algorithm=check.algorithm,
        dataset=dataset,
        seed=seed,
        stop=trainer_pb2.StopCriteria(episode_return=check.wanted, seconds=check.seconds),
    )
    began = time.monotonic()
    with connect("trainer", settings.trainer_address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        run = watch_run(stub, stub.StartRun(trainer_pb2.StartRunRequest(spec=spec), timeout=call_seconds()).run)
    reached = run.published.evaluated_return if run.version else None
    outcome = Outcome(check, run, reached, time.monotonic() - began)
    console.print(f"  {_reached(outcome)} after {outcome.seconds:.0f} s {run.error}")
    return outcome


def recorded(settings: Settings, environment: str) -> Path:
    """Records the teacher of an environment, unless that was done; gives the dataset's folder."""
    (teacher,) = (check for check in CHECKS[:2] if check.environment == environment)
    with connect("trainer", settings.trainer_address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        request = trainer_pb2.ListRunsRequest(policy=teacher.policy)
        versions = [run.version for run in stub.ListRuns(request, timeout=call_seconds()).runs]
    version = max(versions, default=0)
    if not version:
        raise SteersmanError(f"expected a version of {teacher.policy} to record, got none")
    folder = settings.var_dir.absolute() / "datasets" / f"{teacher.policy}-{version}"
    if not (folder / FILE).exists():
        deploying = deployment_pb2.DeployRequest(policy=teacher.policy, version=version)
        with connect("gateway", settings.gateway_address) as channel:
            deployments = deployment_pb2_grpc.DeploymentServiceStub(channel)
            deployment = deployments.Deploy(deploying, timeout=call_seconds()).deployment
            wait_until_ready(deployments, deployment, DEPLOY_SECONDS)
            how = DATASETS[environment]
            with progress() as view, PolicyClient(teacher.policy, address=settings.gateway_address) as client:
                view.add_task(f"recording {how.episodes} episodes of {teacher.policy}:{version}", total=None)
                made = record(
                    lambda: gymnasium.make(environment),
                    folder,
                    policy=client,
                    episodes=how.episodes,
                    random_share=how.random_share,
                )
            deployments.Undeploy(deployment_pb2.UndeployRequest(policy=teacher.policy), timeout=call_seconds())
        console.print(f"  recorded {made.steps:,} steps, mean return {made.mean_return:.1f}")
    return folder


def table(outcomes: Sequence[Outcome]) -> Table:
    """Puts outcomes into a table."""
    shown = Table(title="What the algorithms have learnt with their defaults", title_justify="left")
    for column in ("algorithm", "environment", "return wanted", "return reached", "seconds of training", "in all", ""):
        shown.add_column(column)
    for outcome in outcomes:
        check = outcome.check
        shown.add_row(
            check.algorithm,
            check.environment,
            f"{check.wanted:g}",
            _reached(outcome),
            f"{outcome.run.latest.seconds:.0f}",
            f"{outcome.seconds:.0f}",
            "[green]learns" if outcome.holds else "[bold red]does not learn",
        )
    return shown


def _reached(outcome: Outcome) -> str:
    return "none" if outcome.reached is None else f"{outcome.reached:.1f}"


if __name__ == "__main__":
    typer.run(main)
