"""What a run has learnt, from an RLlib checkpoint: a bundle, and how it plays.

RLlib's training return is no evaluation, so a run claims no other return than this one.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from services.common.bundle import Bundle, read_bundle
from services.trainer.export.bundle_export import export_bundle, load_checkpoint
from services.trainer.job import greedy
from services.trainer.job.evaluation_settings import complete_evaluation
from services.trainer.job.orders import EvaluationPatience
from services.trainer.job.publishing import Export
from steersman.arguments import kwargs_of, plain_values
from steersman.environments.choice import recorded
from steersman.v1 import trainer_pb2

EVALUATION_SEED = 1_000_000
"""Of the episodes that decide: whether a run stops, and which trial or checkpoint becomes the version."""

CLAIM_SEED = 2_000_000
"""Of the episodes that decide nothing, so that their return may be claimed."""

_PACKAGES = ("steersman", "ray", "torch", "onnx", "onnxruntime", "gymnasium", "numpy")


def export(
    run: trainer_pb2.Run, iteration: trainer_pb2.Iteration, checkpoint: Path, folder: Path
) -> trainer_pb2.Iteration:
    """Exports a checkpoint's policy as a bundle and plays that greedily.

    Args:
        run: The run; its id, spec and commit.
        iteration: The iteration that the checkpoint is of.
        checkpoint: The checkpoint, which this installation has written.
        folder: Where the bundle goes.

    Returns:
        The iteration with its evaluated return, which is the best one if it is.

    Raises:
        SteersmanError: If the policy cannot be exported, or the environment cannot be played.
    """
    bundle = _bundle(run, iteration, checkpoint, folder)
    evaluated = trainer_pb2.Iteration()
    evaluated.CopyFrom(iteration)
    _note(evaluated, _play(run, bundle, EVALUATION_SEED))
    if not iteration.HasField("best_evaluated_return") or evaluated.evaluated_return > iteration.best_evaluated_return:
        evaluated.best_evaluated_return = evaluated.evaluated_return
    return evaluated


def evaluate_again(run: trainer_pb2.Run, export: Export) -> Export:
    """Plays an export in other episodes: what was chosen for its return needs one that nothing was chosen for.

    Args:
        run: The run, with the spec of the trial that was chosen.
        export: What the trial exported.

    Returns:
        The same with the new evaluated return.

    Raises:
        SteersmanError: If the environment cannot be played.
    """
    iteration = trainer_pb2.Iteration()
    iteration.CopyFrom(export.iteration)
    _note(iteration, _play(run, read_bundle(export.bundle), CLAIM_SEED))
    return replace(export, iteration=iteration)


def what_was_cut(run: trainer_pb2.Run, iteration: trainer_pb2.Iteration) -> str:
    """Says in one sentence that episodes of an evaluation did not end; empty if all did."""
    if not iteration.cut_episodes:
        return ""
    evaluation = complete_evaluation(run.spec.evaluation)
    return (
        f"{iteration.cut_episodes} of the {evaluation.episodes} greedy episodes of iteration {iteration.iteration} did "
        f"not end within {evaluation.longest_episode_steps:,} steps and {evaluation.longest_seconds:g} s and were cut "
        "there, so its evaluated return is that of unfinished episodes; where the environment has no time limit of its "
        "own, --environment-set max_episode_steps=N gives it one"
    )


def _play(run: trainer_pb2.Run, bundle: Bundle, seed: int) -> greedy.Played:
    evaluation = complete_evaluation(run.spec.evaluation)
    return greedy.play(bundle, run.spec.environment, evaluation, seed, EvaluationPatience())


def _note(iteration: trainer_pb2.Iteration, played: greedy.Played) -> None:
    iteration.evaluated_return = played.mean_return
    iteration.cut_episodes = played.unfinished


def _bundle(run: trainer_pb2.Run, iteration: trainer_pb2.Iteration, checkpoint: Path, folder: Path) -> Bundle:
    spec = run.spec
    return export_bundle(
        load_checkpoint(checkpoint),
        folder,
        environment=recorded(spec.environment, spec.code.sha256, spec.seed),
        algorithm=spec.algorithm,
        provenance={
            "run_id": run.id,
            "git_commit": run.git_commit,
            "environment_kwargs": kwargs_of(spec.environment),
            "wrappers": [{"path": wrapper.path, "kwargs": kwargs_of(wrapper)} for wrapper in spec.environment.wrappers],
            "code_sha256": spec.code.sha256,
            "settings": plain_values(spec.settings),
            "seed": spec.seed,
            "iteration": iteration.iteration,
            "steps": iteration.steps,
            "metrics": {"training_return": iteration.training_return} if iteration.HasField("training_return") else {},
            "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
            "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
