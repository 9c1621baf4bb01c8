"""Robustness: how a policy does against the strength of what makes its environment harder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from services.evaluator.judge.report import rows_of, success_rate_of
from services.evaluator.judge.summary_statistics import summarise
from services.evaluator.play.disturbances import Disturbance, Kind
from services.evaluator.play.evaluation import Arena, Result
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import evaluator_pb2

MAX_DISTURBANCES = 8
MAX_STRENGTHS = 16
MAX_DELAY = 1000


def read_disturbances(messages: Sequence[evaluator_pb2.Disturbance]) -> list[Disturbance]:
    """Gives every strength of every disturbance, in order.

    Raises:
        InvalidArgumentError: If there are too many, or one makes no sense.
    """
    if len(messages) > MAX_DISTURBANCES:
        raise InvalidArgumentError(f"expected at most {MAX_DISTURBANCES} disturbances, got {len(messages)}")
    return [found for message in messages for found in _read(message)]


def arena_with(arena: Arena, disturbance: Disturbance) -> Arena:
    """Gives the same with an environment that is made harder."""
    return replace(arena, recipe=replace(arena.recipe, disturbance=disturbance))


def curves_of(
    messages: Sequence[evaluator_pb2.Disturbance], results: Sequence[Result]
) -> list[evaluator_pb2.RobustnessCurve]:
    """Makes the curves of a report.

    Args:
        messages: The disturbances.
        results: What was played in each strength of each, in order. Those without an episode are left out.
    """
    remaining = iter(results)
    return [
        evaluator_pb2.RobustnessCurve(
            disturbance=message,
            points=[
                _point(strength, result)
                for strength, result in zip(message.strengths, remaining, strict=False)
                if result.episodes
            ],
        )
        for message in messages
    ]


def _point(strength: float, result: Result) -> evaluator_pb2.RobustnessPoint:
    summary = summarise(result.returns)
    return evaluator_pb2.RobustnessPoint(
        strength=strength,
        episodes=rows_of(result.in_order),
        mean=summary.mean,
        mean_interval=evaluator_pb2.Interval(low=summary.interval[0], high=summary.interval[1]),
        interquartile_mean=summary.interquartile_mean,
        success_rate=success_rate_of(result.in_order),
    )


def _read(message: evaluator_pb2.Disturbance) -> Iterator[Disturbance]:
    try:
        kind = Kind(message.kind)
    except ValueError:
        raise InvalidArgumentError(
            f"expected a kind of disturbance from 1 to {len(Kind)}, got {message.kind}"
        ) from None
    if (kind is Kind.PARAMETER) != bool(message.attribute):
        raise InvalidArgumentError(
            f"expected an attribute for a parameter and none for anything else, got {quoted(message.attribute)} for "
            f"{kind.name.lower()}"
        )
    if not 1 <= len(message.strengths) <= MAX_STRENGTHS:
        raise InvalidArgumentError(
            f"expected 1 to {MAX_STRENGTHS} strengths of a disturbance, got {len(message.strengths)}"
        )
    for strength in message.strengths:
        _check(kind, strength)
        yield Disturbance(kind, strength, message.attribute)


def _check(kind: Kind, strength: float) -> None:
    allowed, words = {
        Kind.OBSERVATION_NOISE: (strength >= 0, "a standard deviation of at least 0"),
        Kind.DROPPED_ACTIONS: (0 <= strength <= 1, "a probability from 0 to 1 of dropped actions"),
        Kind.DELAYED_ACTIONS: (
            0 <= strength <= MAX_DELAY and strength == math.floor(strength),
            f"a whole number of steps from 0 to {MAX_DELAY} for delayed actions",
        ),
        Kind.PARAMETER: (True, "a finite factor for a parameter"),
    }[kind]
    if not (allowed and math.isfinite(strength)):
        raise InvalidArgumentError(f"expected {words}, got {strength:g}")
