"""`steersman runs`: list, show, watch and stop training runs."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer

from steersman.cli.connection import call_seconds, configured, connect, events, numbers_that_fit
from steersman.cli.output import JsonOption, live, note, plain, print_json, print_table, progress
from steersman.cli.run_comparison import compare
from steersman.cli.run_view import RunView, describe_return, state_name
from steersman.cli.sweep import TRIAL_COLUMNS, trial_rows
from steersman.cli.timeout import with_timeout
from steersman.environments.choice import described
from steersman.errors import InternalError
from steersman.v1 import trainer_pb2, trainer_pb2_grpc

app = typer.Typer(invoke_without_command=True)

app.command()(with_timeout(compare))

_STOP_SECONDS = 180.0
"""How long stopping a run may take, its evaluation and export included."""

_RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@app.callback()
@with_timeout
def list_runs(
    context: typer.Context,
    policy: Annotated[str, typer.Option(help="Only runs of this policy.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Lists training runs, newest first; or shows, watches or stops one.

    Examples:
        steersman runs --policy cartpole

        steersman runs watch RUN
    """
    if context.invoked_subcommand is not None:
        return

    with numbers_that_fit():
        request = trainer_pb2.ListRunsRequest(policy=policy, limit=limit)
    with connect("trainer", configured().trainer_address) as channel:
        runs = trainer_pb2_grpc.TrainerServiceStub(channel).ListRuns(request, timeout=call_seconds()).runs
    if as_json:
        print_json([plain(run) for run in runs])
        return
    rows = [
        (
            run.id,
            _policy_address(run),
            run.spec.environment.id,
            state_name(run),
            describe_return(run.latest),
        )
        for run in runs
    ]
    # Few enough to be read in 80 columns; `runs show` has the rest.
    columns = ("run", "policy", "environment", "state", "return")
    print_table("Runs", columns, rows, "No runs yet; start one with: steersman train CartPole-v1 --stop-return 450")


@app.command()
@with_timeout
def show(run_id: _RunArgument, as_json: JsonOption = False) -> None:
    """Shows one run.

    Example:
        steersman runs show RUN --json
    """
    with connect("trainer", configured().trainer_address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        run = stub.GetRun(trainer_pb2.GetRunRequest(id=run_id), timeout=call_seconds()).run
    print_run(run, as_json)


@app.command()
@with_timeout
def watch(run_id: _RunArgument, as_json: JsonOption = False) -> None:
    """Follows a run until it ends. Ctrl-C stops following, not the run.

    Example:
        steersman runs watch RUN
    """
    with connect("trainer", configured().trainer_address) as channel:
        run = watch_run(trainer_pb2_grpc.TrainerServiceStub(channel), trainer_pb2.Run(id=run_id))
    print_run(run, as_json)


@app.command()
@with_timeout
def stop(
    run_id: _RunArgument,
    export: Annotated[
        bool, typer.Option("--export", help="Evaluate, export and register first what was learnt so far.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stops a run, and waits until it has ended.

    Examples:
        steersman runs stop RUN

        steersman runs stop RUN --export
    """
    address = configured().trainer_address
    with connect("trainer", address, _STOP_SECONDS) as channel, progress() as view:
        view.add_task(f"stopping run {run_id}", total=None)
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        request = trainer_pb2.StopRunRequest(id=run_id, export=export)
        run = stub.StopRun(request, timeout=call_seconds(_STOP_SECONDS)).run
    print_run(run, as_json)


def watch_run(
    stub: trainer_pb2_grpc.TrainerServiceStub, run: trainer_pb2.Run, after_iteration: int = 0
) -> trainer_pb2.Run:
    """Follows a run to its end with a live view. Ctrl-C ends that, and says how to follow or stop the run then.

    Args:
        stub: The trainer.
        run: The run as far as it is known; its id at least.
        after_iteration: The last iteration that need not be told.

    Returns:
        The run in its final state, or as last seen if the user stopped following it.
    """
    run_id = run.id
    view = RunView(run)
    try:
        with live(view):
            request = trainer_pb2.WatchRunRequest(id=run_id, after_iteration=after_iteration)
            for event in events(stub.WatchRun(request)):
                if event.HasField("run"):
                    run = event.run
                    view.update(run)
                else:
                    run.latest.CopyFrom(event.iteration)
                    view.update(run, event.iteration)
    except KeyboardInterrupt:
        _note_that_it_goes_on(run_id)
    except grpc.RpcError as error:
        was_there = run.state != trainer_pb2.RUN_STATE_UNSPECIFIED
        if was_there and isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAVAILABLE:
            _note_that_it_goes_on(run_id)
        raise
    return run


def _note_that_it_goes_on(run_id: str) -> None:
    note(f"Run {run_id} goes on. Follow it again with: steersman runs watch {run_id}")
    note(f"Stop it with: steersman runs stop {run_id}")


def print_run(run: trainer_pb2.Run, as_json: bool) -> None:
    """Prints a run.

    Raises:
        InternalError: If the run failed, so that the command does too.
    """
    if as_json:
        print_json(plain(run))
    else:
        latest = run.latest
        rows: list[tuple[str, object]] = [
            ("run", run.id),
            ("policy", _policy_address(run)),
            ("environment", described(run.spec.environment)),
            ("algorithm", run.spec.algorithm),
            ("state", state_name(run)),
            ("iterations", latest.iteration),
            ("steps", f"{latest.steps:,}"),
            ("seconds of training", f"{latest.seconds:.1f}"),
            ("return", describe_return(latest)),
        ]
        if latest.HasField("best_evaluated_return"):
            rows.append(("best evaluated return", f"{latest.best_evaluated_return:.1f}"))
        if run.version:
            rows.append(
                ("return of the version", f"{run.published.evaluated_return:.1f}, iteration {run.published.iteration}")
            )
        if run.best_trial:
            rows.append(("best trial", run.best_trial))
        if run.queue_position:
            rows.append(("queue", f"number {run.queue_position}: {run.queue_reason}"))
        if run.warning:
            rows.append(("warning", run.warning))
        print_table("Run", ("", ""), rows, "")
        if run.trials:
            print_table("Trials", TRIAL_COLUMNS, trial_rows(run), "")
    if run.state == trainer_pb2.RUN_STATE_FAILED:
        note(f"Its log: steersman logs {run.id}. Go on from its last checkpoint: steersman resume {run.id}")
        raise InternalError(f"run {run.id} failed: {run.error}")


def _policy_address(run: trainer_pb2.Run) -> str:
    """Writes the policy, with the version that the run made of it, if it has."""
    return f"{run.spec.policy}:{run.version}" if run.version else run.spec.policy
