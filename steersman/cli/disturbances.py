"""Disturbances on the command line: what makes an environment harder, and how a policy does then."""

from __future__ import annotations

from steersman.cli.output import print_table
from steersman.errors import InvalidArgumentError
from steersman.v1 import evaluator_pb2

_KINDS = {
    "noise": evaluator_pb2.DISTURBANCE_KIND_OBSERVATION_NOISE,
    "drop": evaluator_pb2.DISTURBANCE_KIND_DROPPED_ACTIONS,
    "delay": evaluator_pb2.DISTURBANCE_KIND_DELAYED_ACTIONS,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def parse_disturbance(text: str) -> evaluator_pb2.Disturbance:
    """Reads NAME=STRENGTH,...: "noise", "drop", "delay", or the name of an attribute of the environment's.

    Raises:
        InvalidArgumentError: If there is no name, or a strength is no number.
    """
    name, _, strengths = text.partition("=")
    kind = _KINDS.get(name, evaluator_pb2.DISTURBANCE_KIND_PARAMETER)
    try:
        numbers = [float(strength) for strength in strengths.split(",")]
    except ValueError:
        numbers = []
    if not name or not numbers:
        raise InvalidArgumentError(f"expected a disturbance like noise=0.1,0.3 or gravity=0.5,2, got {text!r}")
    attribute = "" if name in _KINDS else name
    return evaluator_pb2.Disturbance(kind=kind, attribute=attribute, strengths=numbers)


def print_curves(report: evaluator_pb2.EvaluationReport) -> None:
    """Prints how a policy did in each strength of each disturbance."""
    rows = [
        (
            curve.disturbance.attribute or _NAMES[curve.disturbance.kind],
            f"{point.strength:g}",
            f"{point.mean:.2f}",
            f"{point.mean_interval.low:.2f} to {point.mean_interval.high:.2f}",
            f"{point.interquartile_mean:.2f}",
            f"{100 * point.success_rate:.1f}%" if point.HasField("success_rate") else "",
        )
        for curve in report.robustness
        for point in curve.points
    ]
    columns = ("disturbance", "strength", "mean", "95% interval", "interquartile mean", "success rate")
    print_table("Robustness", columns, rows, "")
