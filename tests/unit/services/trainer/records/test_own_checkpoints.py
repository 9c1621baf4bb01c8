from __future__ import annotations

import stat
from pathlib import Path

import pytest

from services.trainer.records.own_checkpoints import check, digest, is_ours, ledger, note
from steersman.errors import FailedPreconditionError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    (folder / "learner_group").mkdir(parents=True)
    (folder / "learner_group" / "state.pkl").write_bytes(b"weights")
    (folder / "rllib_checkpoint.json").write_text("{}")
    return folder


def test_what_was_noted_is_ours_wherever_it_lies(checkpoint: Path, tmp_path: Path) -> None:
    noted = ledger(tmp_path / "var")
    assert not is_ours(checkpoint, noted)

    note(checkpoint, noted)

    assert is_ours(checkpoint.rename(tmp_path / "elsewhere"), noted)
    assert stat.S_IMODE(noted.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("name", "content"),
    [("learner_group/state.pkl", b"Weights"), ("learner_group/more.pkl", b""), ("state.pkl", b"weights")],
    ids=["another content", "one more", "the same elsewhere"],
)
def test_what_was_changed_is_not(name: str, content: bytes, checkpoint: Path, tmp_path: Path) -> None:
    noted = ledger(tmp_path / "var")
    note(checkpoint, noted)

    (checkpoint / name).write_bytes(content)

    assert not is_ours(checkpoint, noted)
    with pytest.raises(FailedPreconditionError, match=r"the digest of mine:3 is not among those in .*checkpoints"):
        check(checkpoint, noted, "mine:3")


def test_what_tune_adds_later_changes_nothing(checkpoint: Path) -> None:
    before = digest(checkpoint)
    (checkpoint / ".metadata.json").write_text("{}")
    assert digest(checkpoint) == before


def test_a_folder_that_is_not_there_is_not_ours(tmp_path: Path) -> None:
    note(tmp_path, ledger(tmp_path / "var"))
    assert not is_ours(tmp_path / "nothing", ledger(tmp_path / "var"))
