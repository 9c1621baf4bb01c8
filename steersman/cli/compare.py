"""`steersman compare`: which of two policies is better."""

from __future__ import annotations

from typing import Annotated

import typer

from steersman.cli import panels
from steersman.cli.connection import configured, connect, events, numbers_that_fit
from steersman.cli.episode_limits import LongestEpisodeOption, LongestSecondsOption
from steersman.cli.evaluate import show_progress
from steersman.cli.output import JsonOption, plain, print_json, print_table, progress
from steersman.cli.own_code import (
    AsGivenOption,
    EnvironmentOption,
    EnvironmentSetOption,
    PyModuleOption,
    WorkingDirOption,
    WrapperOption,
    add_environment,
    code_from,
    environment_rows,
)
from steersman.errors import InternalError, InvalidArgumentError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc

_VERDICTS = {
    evaluator_pb2.VERDICT_BETTER: "better",
    evaluator_pb2.VERDICT_WORSE: "worse",
    evaluator_pb2.VERDICT_UNCLEAR: "can't tell yet",
}

_METHODS = {
    evaluator_pb2.INTERVAL_METHOD_UNSPECIFIED: "",
    evaluator_pb2.INTERVAL_METHOD_BOOTSTRAP: "bootstrap; too narrow where large losses are too rare to have been seen",
    evaluator_pb2.INTERVAL_METHOD_STUDENT: "Student's; too narrow where large losses are too rare to have been seen",
    evaluator_pb2.INTERVAL_METHOD_EMPIRICAL_BERNSTEIN: "empirical Bernstein; right for any differences within bounds",
}

ReturnBoundsOption = Annotated[
    str,
    typer.Option(
        metavar="LOW,HIGH",
        help="What every return is within; then the error rate holds for any differences, with wider intervals.",
        rich_help_panel=panels.STATISTICS,
    ),
]


def compare(
    policy: Annotated[str, typer.Argument(metavar="POLICY[:VERSION]", help="Which policy may be better.")],
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help='Than which one; or "random" or "constant".')],
    episodes: Annotated[int, typer.Option(min=1, help="Episodes that each plays; at most, if sequential.")] = 100,
    environment: EnvironmentOption = "",
    environment_setting: EnvironmentSetOption = None,
    as_given: AsGivenOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Both play episode i after a reset with seed + i.")] = 0,
    sequential: Annotated[
        bool,
        typer.Option(
            "--sequential",
            help="Stop when it can be told; from 160 episodes on, with bounds from 40.",
            rich_help_panel=panels.STATISTICS,
        ),
    ] = False,
    error_rate: Annotated[
        float, typer.Option(help="Probability of calling a difference that is none.", rich_help_panel=panels.STATISTICS)
    ] = 0.05,
    return_bounds: ReturnBoundsOption = "",
    longest_episode: LongestEpisodeOption = 0,
    longest_seconds: LongestSecondsOption = 0.0,
    wrapper: WrapperOption = None,
    working_dir: WorkingDirOption = "",
    py_module: PyModuleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plays two policies on the same seeds and says which one is better. Ctrl-C stops it.

    Examples:
        steersman compare cartpole:8 cartpole:7

        steersman compare cartpole@candidate cartpole@champion --episodes 1000 --sequential
    """
    with numbers_that_fit():
        request = evaluator_pb2.CompareRequest(
            policy=policy,
            baseline=baseline,
            episodes=episodes,
            seed=seed,
            sequential=sequential,
            error_rate=error_rate,
            return_bounds=parse_bounds(return_bounds),
            longest_episode_steps=longest_episode,
            longest_seconds=longest_seconds,
            code=code_from(working_dir, py_module),
        )
    add_environment(request, environment, environment_setting, wrapper, as_given=as_given)
    comparison = run_comparison(request)
    if as_json:
        print_json(plain(comparison))
    else:
        print_comparison(comparison)


def parse_bounds(text: str) -> evaluator_pb2.Interval | None:
    """Reads LOW,HIGH; nothing is no bounds.

    Raises:
        InvalidArgumentError: If these are no two numbers.
    """
    if not text:
        return None
    low, _, high = text.partition(",")
    try:
        return evaluator_pb2.Interval(low=float(low), high=float(high))
    except ValueError:
        raise InvalidArgumentError(f"expected bounds of returns like 0,500, got {text!r}") from None


def run_comparison(request: evaluator_pb2.CompareRequest) -> evaluator_pb2.Comparison:
    """Compares with a live view. Ctrl-C stops it.

    Raises:
        InternalError: If the evaluator ends without a comparison.
    """
    with connect("evaluator", configured().evaluator_address) as channel, progress() as view:
        task = view.add_task(f"comparing {request.policy} with {request.baseline}", total=None)
        for event in events(evaluator_pb2_grpc.EvaluatorServiceStub(channel).Compare(request)):
            if event.HasField("comparison"):
                return event.comparison
            show_progress(view, task, event.progress)
    raise InternalError("expected a comparison at the end, got none")


def print_comparison(comparison: evaluator_pb2.Comparison) -> None:
    """Prints a comparison as a table."""
    policy, baseline = comparison.policy, comparison.baseline
    rows: list[tuple[str, object]] = [
        ("policy", f"{_name(policy)}, mean return {policy.mean:.2f}"),
        ("baseline", f"{_name(baseline)}, mean return {baseline.mean:.2f}"),
        *environment_rows(policy),
        *(
            [("not the baseline's", baseline.environment_difference)]
            if baseline.environment_difference and baseline.environment_difference != policy.environment_difference
            else []
        ),
        ("episodes", f"{comparison.pairs} each, on the same seeds from {comparison.seed} on"),
        ("difference", difference_in_words(comparison)),
        ("probability of improvement", f"{100 * comparison.probability_of_improvement:.1f}%"),
        ("verdict", verdict_in_words(comparison)),
        ("interval", _METHODS[comparison.interval_method]),
    ]
    if comparison.artifact_uri:
        rows.append(("kept in", comparison.artifact_uri))
    print_table("Comparison", ("", ""), rows, "")


def difference_in_words(comparison: evaluator_pb2.Comparison) -> str:
    """Writes the difference and its interval."""
    interval = comparison.difference_interval
    return f"{comparison.difference:+.2f} (interval {interval.low:+.2f} to {interval.high:+.2f})"


def verdict_in_words(comparison: evaluator_pb2.Comparison) -> str:
    """Writes the verdict, and how many more episodes would tell."""
    words = _VERDICTS[comparison.verdict]
    if comparison.verdict != evaluator_pb2.VERDICT_UNCLEAR:
        return words
    if comparison.HasField("further_pairs"):
        return f"{words}; about {comparison.further_pairs:,} more episodes would"
    return f"{words}; {'very many more would' if comparison.difference else 'there was no difference at all'}"


def _name(report: evaluator_pb2.EvaluationReport) -> str:
    return f"{report.policy}:{report.version}" if report.version else report.policy
