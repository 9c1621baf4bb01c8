"""Suites: policies times environments, evaluated one after the other into one table."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steersman.arguments import to_struct, to_text
from steersman.cli.connection import numbers_that_fit
from steersman.cli.output import print_json, print_table
from steersman.cli.own_code import code_from, environment_in_words
from steersman.cli.train import parse_wrapper
from steersman.errors import FailedPreconditionError, InvalidArgumentError, SteersmanError
from steersman.v1 import evaluator_pb2

_KEYS = {"policies", "environments", "episodes", "seed", "references", "working_dir", "py_modules"}
_ENVIRONMENT_KEYS = {"id", "kwargs", "wrappers", "as_given"}

Evaluate = Callable[[evaluator_pb2.EvaluateRequest], evaluator_pb2.EvaluationReport]


@dataclass(frozen=True)
class SuiteEnvironment:
    """One environment of a suite.

    Attributes:
        id: Gymnasium id; empty for the one that a policy was trained in.
        kwargs: Keyword arguments for `gymnasium.make`, put over those that a policy was trained with.
        wrappers: Wrappers instead of those that it was trained with, as `--wrapper` takes them.
        as_given: Whether nothing of the training is taken but the id.
    """

    id: str = ""
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: list[str] = field(default_factory=list)
    as_given: bool = False


@dataclass(frozen=True)
class Suite:
    """What is evaluated.

    Attributes:
        policies: Addresses of policies; each plays in every environment.
        environments: Where.
        episodes: Of each policy in each environment.
        seed: Of the first of them.
        references: What else plays the same episodes.
        working_dir: Code of one's own, as `--working-dir` takes it.
        py_modules: Packages of one's own, as `--py-module` takes them.
    """

    policies: list[str]
    environments: list[SuiteEnvironment]
    episodes: int = 100
    seed: int = 0
    references: list[str] = field(default_factory=list)
    working_dir: str = ""
    py_modules: list[str] = field(default_factory=list)

    def requests(self, *, keep: bool) -> list[evaluator_pb2.EvaluateRequest]:
        """Gives the evaluations, one for each policy and environment."""
        requests = []
        for environment in self.environments:
            for policy in self.policies:
                with numbers_that_fit():
                    request = evaluator_pb2.EvaluateRequest(
                        policy=policy,
                        environment_id=environment.id,
                        episodes=self.episodes,
                        seed=self.seed,
                        references=self.references,
                        record=keep,
                        environment_as_given=environment.as_given,
                        code=code_from(self.working_dir, self.py_modules),
                    )
                request.environment_kwargs_json = to_text(environment.kwargs)
                request.environment_kwargs.CopyFrom(to_struct(environment.kwargs))
                request.wrappers.extend(map(parse_wrapper, environment.wrappers))
                requests.append(request)
        return requests


def read_suite(path: Path) -> Suite:
    """Reads a suite from a TOML file.

    Raises:
        InvalidArgumentError: If it cannot be read, or is no suite.
    """
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidArgumentError(f"cannot read the suite {path}: {error}") from None
    if unknown := values.keys() - _KEYS:
        raise InvalidArgumentError(f"expected {', '.join(sorted(_KEYS))} in {path}, got {', '.join(sorted(unknown))}")
    policies = _texts(values, "policies", path)
    if not policies:
        raise InvalidArgumentError(f"expected at least one policy in {path}, got none")
    return Suite(
        policies,
        [_environment(entry, path) for entry in values.get("environments", [{}])],
        _number(values, "episodes", 100, path),
        _number(values, "seed", 0, path),
        _texts(values, "references", path),
        _text(values, "working_dir", path),
        _texts(values, "py_modules", path),
    )


def run_suite(suite: Suite, evaluate: Evaluate, *, keep: bool, as_json: bool) -> None:
    """Evaluates a suite and prints one table. An evaluation that fails does not keep the others from being made.

    Args:
        suite: What to evaluate.
        evaluate: Makes one evaluation.
        keep: Whether reports are kept in MLflow.
        as_json: Whether to print JSON instead.

    Raises:
        FailedPreconditionError: If an evaluation failed, after the table is printed.
    """
    results = []
    for request in suite.requests(keep=keep):
        result: dict[str, Any] = {"policy": request.policy, "environment": request.environment_id, "error": ""}
        try:
            report = evaluate(request)
        except SteersmanError as error:
            result["error"] = str(error)
        else:
            result |= {
                "policy": f"{report.policy}:{report.version}",
                "environment": environment_in_words(report),
                "environment_difference": report.environment_difference,
                "episodes": len(report.episodes),
                "mean": report.mean,
                "low": report.mean_interval.low,
                "high": report.mean_interval.high,
                "interquartile_mean": report.interquartile_mean,
                "references": {other.name: other.mean for other in report.references},
            }
        results.append(result)
    if as_json:
        print_json(results)
    else:
        columns = ("policy", "environment", "episodes", "mean", "95% interval", "interquartile mean", "references", "")
        print_table("Suite", columns, [_row(result) for result in results], "")
    if failed := sum(bool(result["error"]) for result in results):
        raise FailedPreconditionError(f"expected all evaluations of the suite to end, but {failed} did not")


def _row(result: dict[str, Any]) -> tuple[object, ...]:
    if result["error"]:
        return (result["policy"], result["environment"], "", "", "", "", "", result["error"])
    return (
        result["policy"],
        result["environment"],
        result["episodes"],
        f"{result['mean']:.2f}",
        f"{result['low']:.2f} to {result['high']:.2f}",
        f"{result['interquartile_mean']:.2f}",
        ", ".join(f"{name} {mean:.2f}" for name, mean in result["references"].items()),
        result["environment_difference"],
    )


def _environment(entry: Any, path: Path) -> SuiteEnvironment:  # noqa: ANN401 - any TOML value
    if not isinstance(entry, dict) or entry.keys() - _ENVIRONMENT_KEYS:
        raise InvalidArgumentError(
            f"expected [[environments]] with id and kwargs, or also wrappers and as_given, in {path}, got {entry!r}"
        )
    kwargs, as_given = entry.get("kwargs", {}), entry.get("as_given", False)
    if not isinstance(kwargs, dict) or not isinstance(as_given, bool):
        raise InvalidArgumentError(
            f"expected a table as kwargs and true or false as as_given of an environment in {path}, got {entry!r}"
        )
    return SuiteEnvironment(_text(entry, "id", path), kwargs, _texts(entry, "wrappers", path), as_given)


def _text(values: dict[str, Any], name: str, path: Path) -> str:
    text = values.get(name, "")
    if not isinstance(text, str):
        raise InvalidArgumentError(f"expected text for {name} in {path}, got {text!r}")
    return text


def _texts(values: dict[str, Any], name: str, path: Path) -> list[str]:
    texts = values.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidArgumentError(f"expected a list of texts for {name} in {path}, got {texts!r}")
    return texts


def _number(values: dict[str, Any], name: str, default: int, path: Path) -> int:
    number = values.get(name, default)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidArgumentError(f"expected a whole number of at least 0 for {name} in {path}, got {number!r}")
    return number
