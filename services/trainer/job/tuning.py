"""Drives Ray Tune: one trial, or those of a sweep, anew or from where an earlier attempt was."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import BasicVariantGenerator

from services.trainer.environments.watched_environment import report, what_went_wrong
from services.trainer.job import outcome, phases
from services.trainer.job.evaluation_settings import complete_evaluation
from services.trainer.job.iteration_log import RunLog, SweepLog, told_iteration
from services.trainer.job.orders import StopWhenOverdue
from services.trainer.job.plan import Plan
from services.trainer.job.publishing import Export
from services.trainer.job.recovery import Recovery
from services.trainer.job.result_keys import EXPORTED, NUMBER, SCORE, WORST
from services.trainer.job.stall import StallGuard
from services.trainer.job.sweeps.search import param_space, scheduler
from services.trainer.job.sweeps.trial_records import read_trials
from services.trainer.job.trainable import make_trainable, trial_number, trial_plan
from services.trainer.job.trial_callback import reached_target
from services.trainer.job.whole_files import whole_files
from services.trainer.records.tracking import Tracking
from steersman.arguments import plain_values
from steersman.errors import FailedPreconditionError
from steersman.settings import settings
from steersman.v1 import trainer_pb2

_CHECKPOINTS_KEPT = 3
_TUNE = "tune"
_NOTHING = "the run was stopped before its first checkpoint: there is nothing to export"

_log = logging.getLogger(__name__)


class NothingLearntError(FailedPreconditionError):
    """A run was stopped before there was anything to export."""


class SweepFailedError(FailedPreconditionError):
    """Every trial of a sweep failed."""


@dataclass(frozen=True)
class Learnt:
    """What a run's only trial, or its best one, has left.

    Attributes:
        plan: The trial's.
        export: What it exported.
        warning: What went wrong without ending the run, in one sentence; empty if nothing did.
    """

    plan: Plan
    export: Export
    warning: str = ""


def train(plan: Plan, recorder: Tracking, *, was_stopped: bool = False) -> Learnt:
    """Runs the trials of a run and gives the best one's last export.

    Args:
        plan: The run.
        recorder: Where what happens is recorded.
        was_stopped: Whether the attempt before this one was stopped, so that trials which ended go on.

    Raises:
        NothingLearntError: If the run was stopped before there was a checkpoint.
        SweepFailedError: If every trial of a sweep failed.
        Exception: Whatever ended a run's only trial.
    """
    # A result without a return is one: no episode may have ended yet.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    ray.init()
    recovery = Recovery(
        lambda trial_id: what_went_wrong(_number(plan, trial_id)),
        lambda sentence: recorder.warn(plan.run.id, sentence),
    )
    results = _tuner(plan, recorder, recovery, was_stopped=was_stopped).fit()
    if plan.run.spec.HasField("sweep"):
        failed = {trial_number(trial_id) for trial_id in recovery.failed}
        others = [result for result in results if (result.metrics or {}).get(NUMBER) not in failed]
        return _best(plan, others, len(results), recorder)
    (result,) = results
    for error in (result.error, *recovery.failed.values()):
        if error is not None:
            raise error
    return Learnt(plan, _final_export(plan, result))


def _tuner(plan: Plan, recorder: Tracking, recovery: Recovery, *, was_stopped: bool) -> tune.Tuner:
    spec = plan.run.spec
    is_sweep = spec.HasField("sweep")
    trainable = make_trainable(plan)
    files = whole_files()
    run_config = tune.RunConfig(
        name=_TUNE,
        storage_path=str(plan.folder),
        storage_filesystem=files,
        stop=StopWhenOverdue(),
        checkpoint_config=tune.CheckpointConfig(
            num_to_keep=spec.checkpoints_kept or _CHECKPOINTS_KEPT,
            checkpoint_score_attribute=SCORE,
            checkpoint_score_order="max",
            checkpoint_at_end=True,
        ),
        callbacks=[
            SweepLog(plan.run, recorder) if is_sweep else RunLog(plan, recorder),
            _stall_guard(plan),
            recovery,
        ],
        verbose=0,
    )
    folder = str(plan.folder / _TUNE)
    if not tune.Tuner.can_restore(folder, storage_filesystem=files):
        tune_config = tune.TuneConfig(
            search_alg=BasicVariantGenerator(
                max_concurrent=spec.sweep.max_concurrent_trials, random_state=spec.seed % 2**32
            ),
            scheduler=scheduler(spec),
            num_samples=max(1, spec.sweep.num_samples),
        )
        return tune.Tuner(trainable, param_space=param_space(spec), tune_config=tune_config, run_config=run_config)
    _log.info("going on from the last checkpoint")
    again = tune.ResumeConfig.ResumeType
    tuner = tune.Tuner.restore(
        folder,
        trainable,
        storage_filesystem=files,
        param_space=param_space(spec),
        _resume_config=tune.ResumeConfig(
            # A trial that was told to stop has finished, as Tune sees it.
            finished=again.RESUME if was_stopped or not is_sweep else again.SKIP,
            unfinished=again.RESUME,
            errored=again.RESUME,
        ),
    )
    # Ray restores these too, as they were: with the orders and the clock of the attempt before.
    tuner._local_tuner._run_config = run_config  # noqa: SLF001 - there is no public way to replace callbacks
    return tuner


def _stall_guard(plan: Plan) -> StallGuard:
    return StallGuard(
        settings().iteration_seconds,
        # Twice: what is published on the way may be played once more.
        2 * complete_evaluation(plan.run.spec.evaluation).longest_seconds,
        lambda trial_id: phases.is_evaluating(_number(plan, trial_id)),
        lambda trial_id, why: report(_number(plan, trial_id), why),
    )


def _number(plan: Plan, trial_id: str) -> int:
    """Gives the number by which a trial is known in this job: 0 for a run's only one."""
    return trial_number(trial_id) if plan.run.spec.HasField("sweep") else 0


def _best(plan: Plan, results: Sequence[Any], tried: int, recorder: Tracking) -> Learnt:
    """Chooses the trial with the best evaluated return, of those that did not fail; `tried` counts those too.

    That return is the greatest of many, so it is too good on average; the one that the run claims is measured again, in
    other episodes.
    """
    trials = {entry.number: entry for entry in read_trials(recorder, plan.run.id)}
    failed = [entry for entry in trials.values() if entry.state == trainer_pb2.RUN_STATE_FAILED]
    warning = ""
    if failed:
        warning = f"{len(failed)} of {tried} trials failed; trial {failed[0].number}: {failed[0].error}"
    alive = [result for result in results if result.error is None]
    if not alive:
        raise SweepFailedError(warning)
    evaluated = [result for result in alive if _is_exported(result)]
    if evaluated:
        result = max(evaluated, key=lambda entry: told_iteration(entry.metrics).evaluated_return)
    else:
        # The run was stopped before any trial had come to its end.
        result = max(alive, key=lambda entry: (entry.metrics or {}).get(SCORE, WORST))
    if not result.metrics:
        raise NothingLearntError(_NOTHING)
    chosen = trials[result.metrics[NUMBER]]
    own = trial_plan(plan, chosen.number, plain_values(chosen.settings))
    export = _final_export(own, result, was_chosen=True)
    _log.info("trial %d is the best one, return %.1f", own.trial, export.iteration.evaluated_return)
    recorder.choose(plan.run.id, own.trial)
    return Learnt(own, export, warning)


def _final_export(plan: Plan, result: Any, *, was_chosen: bool = False) -> Export:  # noqa: ANN401 - Ray's
    """Gives what a trial leaves: its last export, or that of the best checkpoint which it kept, if that plays better.

    Where its return has decided anything (which of the two it is, which trial, or that the target was reached), that of
    other episodes is claimed.

    Args:
        plan: The trial's.
        result: What Tune has of it.
        was_chosen: Whether the trial was chosen for its return.

    Raises:
        NothingLearntError: If there is no checkpoint.
    """
    last = _last_export(plan, result)
    if reached_target(plan.run.spec.stop, last.iteration):
        # It has not forgotten again what it had learnt.
        return outcome.evaluate_again(plan.run, last)
    rival = _rival_export(plan, result)
    if rival is None:
        return outcome.evaluate_again(plan.run, last) if was_chosen else last
    better = max(last, rival, key=lambda export: export.iteration.evaluated_return)
    _log.info("iteration %d plays better: it becomes the version", better.iteration.iteration)
    return outcome.evaluate_again(plan.run, better)


def _rival_export(plan: Plan, result: Any) -> Export | None:  # noqa: ANN401
    """Exports the best checkpoint that a trial kept, if that seems better than the last iteration; else gives None.

    Some algorithms forget again what they had learnt.
    """
    # There is one, since the last iteration leaves one.
    checkpoint, kept = max(result.best_checkpoints, key=lambda entry: entry[1][SCORE])
    return _export(plan, checkpoint, kept) if kept[SCORE] > result.metrics[SCORE] else None


def _last_export(plan: Plan, result: Any) -> Export:  # noqa: ANN401
    """Gives what a trial exported when it ended; or exports its last checkpoint, if it was ended before that.

    Raises:
        NothingLearntError: If there is no checkpoint.
    """
    if _is_exported(result):
        return plan.exported(told_iteration(result.metrics))
    if not result.best_checkpoints:
        raise NothingLearntError(_NOTHING)
    checkpoint, kept = max(result.best_checkpoints, key=lambda entry: int(entry[1]["training_iteration"]))
    return _export(plan, checkpoint, kept)


def _export(plan: Plan, checkpoint: Any, kept: dict[str, Any]) -> Export:  # noqa: ANN401
    """Exports a checkpoint that Tune has kept, with the result that it kept with it."""
    where = plan.exported(told_iteration(kept))
    evaluated = outcome.export(plan.run, where.iteration, Path(checkpoint.path), where.bundle)
    return Export(evaluated, where.bundle, Path(checkpoint.path))


def _is_exported(result: Any) -> bool:  # noqa: ANN401
    return bool((result.metrics or {}).get(EXPORTED))
