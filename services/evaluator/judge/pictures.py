"""Pictures of a report: how returns are distributed, and how large a part of them is above what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from services.evaluator.judge.summary_statistics import performance_profile
from services.evaluator.play.disturbances import name_of
from steersman.v1 import evaluator_pb2

_BINS = 30
_THRESHOLDS = 200


def write_pictures(report: evaluator_pb2.EvaluationReport, folder: Path) -> None:
    """Writes `returns.png`, a histogram, `profile.png`, the performance profile, and `robustness-1.png` and so on.

    Args:
        report: With at least one episode whose return is finite.
        folder: Where.
    """
    players = {f"{report.policy}:{report.version}": report.episodes} | {
        other.name: other.episodes for other in report.references
    }
    returns = {
        name: [row.episode_return for row in episodes if np.isfinite(row.episode_return)]
        for name, episodes in players.items()
    }
    returns = {name: values for name, values in returns.items() if values}
    everything = np.concatenate(list(returns.values())) if returns else np.zeros(1)
    bins = np.histogram_bin_edges(everything, _BINS)
    figure, axes = _figure(report, "episodes")
    for name, values in returns.items():
        axes.hist(values, bins=bins, alpha=0.6, label=name)
    axes.axvline(report.mean, color="black", linestyle="--", linewidth=1, label=f"mean {report.mean:.4g}")
    axes.legend()
    figure.savefig(folder / "returns.png")
    figure, axes = _figure(report, "part of the episodes above that")
    thresholds = np.linspace(everything.min(), everything.max(), _THRESHOLDS)
    for name, values in returns.items():
        axes.step(thresholds, performance_profile(values, thresholds.tolist()), where="post", label=name)
    axes.legend()
    figure.savefig(folder / "profile.png")
    for number, curve in enumerate(report.robustness, 1):
        if curve.points:
            _write_curve(report, curve, folder / f"robustness-{number}.png")


def _write_curve(report: evaluator_pb2.EvaluationReport, curve: evaluator_pb2.RobustnessCurve, path: Path) -> None:
    figure, axes = _figure(report, "mean return, with its 95% interval")
    points = sorted(curve.points, key=lambda point: point.strength)
    strengths, means = [point.strength for point in points], [point.mean for point in points]
    axes.plot(strengths, means, marker="o", label=f"{report.policy}:{report.version}")
    axes.fill_between(
        strengths,
        [point.mean_interval.low for point in points],
        [point.mean_interval.high for point in points],
        alpha=0.2,
    )
    axes.axhline(report.mean, color="black", linestyle="--", linewidth=1, label=f"undisturbed {report.mean:.4g}")
    axes.set_xlabel(name_of(curve.disturbance).replace("_", " "))
    axes.legend()
    figure.savefig(path)


def _figure(report: evaluator_pb2.EvaluationReport, label: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(report.environment_id)
    axes.set_xlabel("return")
    axes.set_ylabel(label)
    return figure, axes
