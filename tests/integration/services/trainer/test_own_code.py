"""Environments of the user's own, through the trainer's service and Ray's runtime environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from google.protobuf import json_format

from steersman.v1 import trainer_pb2, trainer_pb2_grpc
from steersman.v1.trainer_pb2 import ListRunsRequest, Run, RunSpec, StartRunRequest, WatchRunRequest
from tests.conftest import Stack
from tests.integration.services.trainer.api.test_service import TINY, another_trainer, trainer

__all__ = ["trainer"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

Trainer: TypeAlias = "trainer_pb2_grpc.TrainerServiceAsyncStub"

BOAT = Path(__file__).resolve().parents[4] / "examples" / "boat"
MISBEHAVING = "tests.integration.services.trainer.misbehaving:Misbehaving-v0"


def long(*values: object) -> Any:  # noqa: ANN401 - pytest's name for it is private
    """A case that is much like another one, and takes as long."""
    return pytest.param(*values, marks=pytest.mark.long)


def spec(environment_id: str, working_dir: Path, **fields: Any) -> RunSpec:  # noqa: ANN401 - any JSON
    described: dict[str, Any] = {
        "policy": "own",
        "environment": {"id": environment_id},
        "algorithm": "PPO",
        "settings": TINY,
        "num_env_runners": 0,
        "seed": 1,
        "stop": {"iterations": 1},
        "code": {"working_dir": str(working_dir)},
    }
    return json_format.ParseDict(described | fields, RunSpec())


async def ended(trainer: Trainer, asked: RunSpec) -> Run:
    run = (await trainer.StartRun(StartRunRequest(spec=asked))).run
    events = [event async for event in trainer.WatchRun(WatchRunRequest(id=run.id))]
    return events[-1].run


async def test_an_environment_of_ones_own_needs_no_change_to_steersman(stack: Stack, trainer: Trainer) -> None:
    wrappers = [{"path": "gymnasium.wrappers:TimeAwareObservation"}]
    environment = {"id": "boat:Boat-v0", "kwargs": {"wind": 0.01}, "wrappers": wrappers}
    run = await ended(trainer, spec("", BOAT, environment=environment))
    assert run.state == trainer_pb2.RUN_STATE_SUCCEEDED, run.error
    assert run.version == 1
    assert run.latest.HasField("evaluated_return")
    # What it was started with is kept, so that it can be started again.
    assert Path(run.spec.code.working_dir).is_relative_to(stack.settings.var_dir / "code")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"id": "boat:Yacht-v0"}, "near matches: Boat-v0"),
        long({"id": "yacht:Boat-v0"}, "cannot import 'yacht'"),
        long({"id": "boat:Boat-v0", "kwargs": {"depth": 3}}, "arguments that boat:Boat-v0 takes"),
        long({"id": "boat:Boat-v0", "wrappers": [{"path": "boat:NoSuch"}]}, "cannot import the wrapper"),
    ],
)
async def test_what_is_wrong_with_it_is_told_at_once(
    trainer: Trainer, environment: dict[str, Any], message: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=message) as error:
        await trainer.StartRun(StartRunRequest(spec=spec("", BOAT, environment=environment, policy="wrong-code")))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not (await trainer.ListRuns(ListRunsRequest(policy="wrong-code"))).runs


@pytest.mark.parametrize(("where", "runners"), [long("reset", 1), ("step", 0), long("reset", 0), long("step", 1)])
async def test_an_environment_that_raises_while_training_ends_the_run(
    trainer: Trainer, tmp_path: Path, where: str, runners: int
) -> None:
    (tmp_path / "module.py").write_text("")
    kwargs = {"where": where, "how": "raise", "after": 12}
    asked = spec("", tmp_path, environment={"id": MISBEHAVING, "kwargs": kwargs}, num_env_runners=runners)
    asked.stop.iterations = 1000
    run = await ended(trainer, asked)
    assert run.state == trainer_pb2.RUN_STATE_FAILED
    assert run.error == f"the {where} of {MISBEHAVING} raised RuntimeError: the mast broke"


@pytest.mark.parametrize("runners", [long(1), long(0)])
async def test_an_environment_that_hangs_while_training_ends_the_run(
    stack: Stack, tmp_path: Path, runners: int
) -> None:
    (tmp_path / "module.py").write_text("")
    kwargs = {"where": "step", "how": "hang", "after": 5}
    asked = spec("", tmp_path, environment={"id": MISBEHAVING, "kwargs": kwargs}, num_env_runners=runners)
    async with another_trainer(stack.settings.model_copy(update={"environment_step_seconds": 5.0})) as impatient:
        run = await ended(impatient, asked)
    assert run.state == trainer_pb2.RUN_STATE_FAILED
    assert run.error == f"the step of {MISBEHAVING} did not return within 5 s"
