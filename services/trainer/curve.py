"""The learning curve of a run, as a picture among its artifacts."""

from __future__ import annotations

import io
import logging

from matplotlib.figure import Figure
from PIL import Image

from services.trainer.tracking import Tracking
from steersman.v1 import trainer_pb2

CURVE = "learning_curve.png"

_log = logging.getLogger(__name__)


def draw_curve(run: trainer_pb2.Run, recorder: Tracking) -> None:
    """Draws the returns of a run over its steps and keeps the picture in MLflow. Raises nothing: it is a picture."""
    try:
        iterations = recorder.iterations(run.id, 0)
        if iterations:
            picture = Image.open(io.BytesIO(png(run, iterations)))
            recorder.client.log_image(run.id, picture, CURVE)
    except Exception:  # noqa: BLE001 - no run fails for want of a picture
        _log.exception("the learning curve could not be drawn")


def png(run: trainer_pb2.Run, iterations: list[trainer_pb2.Iteration]) -> bytes:
    """Draws a learning curve.

    Args:
        run: The run.
        iterations: Its iterations, in order; at least one.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    trained = [iteration for iteration in iterations if iteration.HasField("training_return")]
    evaluated = [iteration for iteration in iterations if iteration.HasField("evaluated_return")]
    axes.plot(
        [iteration.steps for iteration in trained],
        [iteration.training_return for iteration in trained],
        label="training return",
    )
    axes.plot(
        [iteration.steps for iteration in evaluated],
        [iteration.evaluated_return for iteration in evaluated],
        "o",
        label="evaluated return",
    )
    axes.set(xlabel="environment steps", ylabel="return", title=f"{run.spec.policy}: {run.spec.algorithm}")
    axes.legend()
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
