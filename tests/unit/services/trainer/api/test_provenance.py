from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from services.trainer.api.provenance import complete_start, git_commit
from services.trainer.records import own_checkpoints
from services.trainer.records.tracking import Tracking
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.v1 import trainer_pb2

NOWHERE = Tracking("http://127.0.0.1:9")


def test_what_starts_anew_stays_as_it_is() -> None:
    spec = trainer_pb2.RunSpec(policy="cartpole")
    assert complete_start(spec, NOWHERE, Path("var")) == spec


def test_a_checkpoint_has_to_be_one_that_this_trainer_wrote(tmp_path: Path) -> None:
    """Reading it runs the code in it."""
    checkpoint, var_dir = tmp_path / "checkpoint", tmp_path / "var"
    checkpoint.mkdir()
    spec = trainer_pb2.RunSpec(warm_start=trainer_pb2.WarmStart(checkpoint=str(checkpoint)))
    with pytest.raises(InvalidArgumentError, match="RLlib algorithm's checkpoint"):
        complete_start(spec, NOWHERE, var_dir)
    (checkpoint / "learner_group").mkdir()
    (checkpoint / "learner_group" / "state.pkl").write_bytes(b"weights")
    with pytest.raises(FailedPreconditionError, match="this installation's own trainer wrote"):
        complete_start(spec, NOWHERE, var_dir)
    own_checkpoints.note(checkpoint, own_checkpoints.ledger(var_dir))
    assert complete_start(spec, NOWHERE, var_dir).warm_start.checkpoint == str(checkpoint)
    spec.warm_start.version = 3
    with pytest.raises(InvalidArgumentError, match="got both"):
        complete_start(spec, NOWHERE, var_dir)


def test_commit_of_the_code_of_a_run(tmp_path: Path) -> None:
    code = trainer_pb2.Code(working_dir=str(tmp_path))
    assert git_commit(code) == ""
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *command], check=True)
    assert len(git_commit(code)) == 40


def test_an_alias_has_to_be_one() -> None:
    spec = trainer_pb2.RunSpec(publishing=trainer_pb2.Publishing(deploy_as="1st"))
    with pytest.raises(InvalidArgumentError, match="'1st'"):
        complete_start(spec, NOWHERE, Path("var"))


def test_what_is_promoted_has_to_be_deployed_and_compared_with_something() -> None:
    spec = trainer_pb2.RunSpec(publishing=trainer_pb2.Publishing(promote_if_better_than="champion"))
    with pytest.raises(InvalidArgumentError, match="besides promote_if_better_than"):
        complete_start(spec, NOWHERE, Path("var"))
    spec.publishing.deploy_as = "candidate"
    assert complete_start(spec, NOWHERE, Path("var")) == spec
    spec.publishing.promote_if_better_than = "12"
    assert complete_start(spec, NOWHERE, Path("var")) == spec
    spec.publishing.promote_if_better_than = "The Champion"
    with pytest.raises(InvalidArgumentError, match="'The Champion'"):
        complete_start(spec, NOWHERE, Path("var"))
