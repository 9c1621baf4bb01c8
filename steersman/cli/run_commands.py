"""`steersman resume`, `logs` and `tensorboard`: what one does with a run besides following it."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Annotated

import typer

from steersman.cli.connection import call_seconds, configured, connect, events
from steersman.cli.output import JsonOption, plain, print_json, say
from steersman.cli.runs import print_run, watch_run
from steersman.errors import FailedPreconditionError
from steersman.v1 import trainer_pb2, trainer_pb2_grpc

_RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


def resume(
    run_id: _RunArgument,
    detach: Annotated[bool, typer.Option("--detach", help="Only submit the run, do not follow it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Goes on with a run that failed or was stopped, from its last checkpoint.

    Example:
        steersman resume RUN
    """
    with connect("trainer", configured().trainer_address) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        run = stub.ResumeRun(trainer_pb2.ResumeRunRequest(id=run_id), timeout=call_seconds()).run
        if not detach:
            run = watch_run(stub, run, run.latest.iteration)
    if not detach:
        print_run(run, as_json)
    elif as_json:
        print_json(plain(run))
    else:
        say(f"Run {run.id} goes on. Follow it with: steersman runs watch {run.id}")


def logs(
    run_id: _RunArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until the run ends.")] = False,
) -> None:
    """Prints what a run's processes have printed.

    Example:
        steersman logs RUN --follow
    """
    request = trainer_pb2.ReadRunLogRequest(id=run_id, follow=follow)
    with connect("trainer", configured().trainer_address) as channel:
        for piece in events(trainer_pb2_grpc.TrainerServiceStub(channel).ReadRunLog(request)):
            typer.echo(piece.text, nl=False)


def tensorboard(
    run_id: Annotated[str, typer.Argument(metavar="[RUN]", help="Only this run.")] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens, on 127.0.0.1.")] = 6006,
) -> None:
    """Shows the TensorBoard files that Tune keeps of every run on this machine.

    Example:
        steersman tensorboard RUN
    """
    folder = configured().var_dir.absolute() / "runs" / run_id
    if not folder.is_dir():
        raise FailedPreconditionError(f"expected the files of runs in {folder}, but there are none on this machine")
    if importlib.util.find_spec("tensorboard") is None:
        raise FailedPreconditionError(
            f"TensorBoard is not installed: pip install tensorboard; the files are in {folder}"
        )
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1"]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, "--port", str(port)])  # noqa: S606 - this very Python  # noqa: S606 - this very Python
