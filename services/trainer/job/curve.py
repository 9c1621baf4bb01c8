"""The learning curve of a run, as a picture among its artifacts."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from PIL import Image

from services.trainer.job.sweeps.trial_records import read_trials
from services.trainer.records.tracking import Tracking
from steersman.v1 import trainer_pb2

CURVE = "learning_curve.png"

_LABELLED = 10
"""Curves that the legend has room for."""

_log = logging.getLogger(__name__)


def draw_curve(run: trainer_pb2.Run, recorder: Tracking) -> None:
    """Draws the returns of a run over its steps and keeps the picture in MLflow. Raises nothing: it is a picture."""
    try:
        sources = {"": run.id}
        if run.spec.HasField("sweep"):
            sources = {f"trial {trial.number}: ": trial.id for trial in read_trials(recorder, run.id)}
        curves = {name: recorder.iterations(source, 0) for name, source in sources.items()}
        if any(curves.values()):
            picture = Image.open(io.BytesIO(png(f"{run.spec.policy}: {run.spec.algorithm}", curves)))
            recorder.client.log_image(run.id, picture, CURVE)
    except Exception:  # noqa: BLE001 - no run fails for want of a picture
        _log.exception("the learning curve could not be drawn")


def png(title: str, curves: Mapping[str, Sequence[trainer_pb2.Iteration]]) -> bytes:
    """Draws learning curves.

    Args:
        title: Stands above them.
        curves: Iterations in order, by what their labels begin with.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, iterations) in enumerate(curves.items()):
        trained = [iteration for iteration in iterations if iteration.HasField("training_return")]
        evaluated = [iteration for iteration in iterations if iteration.HasField("evaluated_return")]
        (line,) = axes.plot(
            [iteration.steps for iteration in trained],
            [iteration.training_return for iteration in trained],
            label=f"{name}training return" if number < _LABELLED else None,
        )
        axes.plot(
            [iteration.steps for iteration in evaluated],
            [iteration.evaluated_return for iteration in evaluated],
            "o",
            color=line.get_color() if len(curves) > 1 else None,
            label=f"{name}evaluated return" if number < _LABELLED and evaluated else None,
        )
    axes.set(xlabel="environment steps", ylabel="return", title=title)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
