"""Where a run comes from: the weights that it starts with, and the commit of the code that it runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from services.common.local_path import local_path
from services.trainer.api.validation import check_policy_name
from services.trainer.records import own_checkpoints
from services.trainer.records.registry import find_version
from services.trainer.records.tracking import Tracking
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import trainer_pb2

_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"[0-9]{1,18}")
_GIT_SECONDS = 5.0
_CHECKPOINT_HAS = "learner_group"


def complete_start(spec: trainer_pb2.RunSpec, tracking: Tracking, var_dir: Path) -> trainer_pb2.RunSpec:
    """Checks what a run starts from and where its versions go, and says which version that is.

    Args:
        spec: What was asked for.
        tracking: MLflow.
        var_dir: Where the trainer keeps what it has written.

    Raises:
        FailedPreconditionError: If it is a checkpoint that this installation's trainer did not write.
        InvalidArgumentError: If it is no checkpoint, both a version and a checkpoint are given, an alias is none, or
            what it makes is to be promoted and not deployed.
        NotFoundError: If there is no such version, or it has no checkpoint.
        UnavailableError: If MLflow cannot be reached.
    """
    alias = spec.publishing.deploy_as
    if alias and not _ALIAS.fullmatch(alias):
        raise InvalidArgumentError(
            "expected an alias of at most 64 lower-case letters, digits, '-' and '_', the first one a letter, as "
            f"publishing.deploy_as, got {quoted(alias)}"
        )
    than = spec.publishing.promote_if_better_than
    if than and not (_ALIAS.fullmatch(than) or _VERSION.fullmatch(than)):
        raise InvalidArgumentError(
            f"expected an alias or a version as publishing.promote_if_better_than, got {quoted(than)}"
        )
    if than and not alias:
        raise InvalidArgumentError(
            "expected publishing.deploy_as besides promote_if_better_than, since what is served is compared, got none"
        )
    completed = trainer_pb2.RunSpec()
    completed.CopyFrom(spec)
    if not spec.HasField("warm_start"):
        return completed
    warm = completed.warm_start
    if warm.checkpoint:
        if warm.policy or warm.version:
            raise InvalidArgumentError("expected either a version or a checkpoint in warm_start, got both")
        folder = local_path(warm.checkpoint)
        if folder is None or not (folder / _CHECKPOINT_HAS).is_dir():
            raise InvalidArgumentError(
                f"expected the folder of an RLlib algorithm's checkpoint in warm_start, got {quoted(warm.checkpoint)}"
            )
        own_checkpoints.check(folder, own_checkpoints.ledger(var_dir), quoted(warm.checkpoint))
        warm.checkpoint = str(folder.absolute())
    else:
        warm.policy = warm.policy or spec.policy
        check_policy_name(warm.policy)
        if warm.version < 0:
            raise InvalidArgumentError(f"expected a version of at least 1, or 0 for the newest, got {warm.version}")
        with tracking.reachable():
            warm.version = find_version(tracking.client, warm.policy, warm.version)
    return completed


def git_commit(code: trainer_pb2.Code) -> str:
    """Gives the commit of the user's code, or of Steersman where there is none; empty if that is in no repository."""
    folder = Path(code.working_dir) if code.working_dir else Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
