from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.common.server import Service
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc
from tests.command_line import CommandLine
from tests.servers import served

PROGRESS = evaluator_pb2.EvaluateResponse(
    progress=evaluator_pb2.EvaluationProgress(episodes_done=1, episodes_total=2, steps=1234, mean_return=17.5)
)
REPORT = evaluator_pb2.EvaluateResponse(
    report=evaluator_pb2.EvaluationReport(
        policy="cartpole",
        version=3,
        model_sha256="0123456789abcdef" * 4,
        environment_id="CartPole-v1",
        episodes=[evaluator_pb2.EpisodeResult(episode=number, episode_return=100.0 * number) for number in range(2)],
        mean=50.0,
        mean_interval=evaluator_pb2.Interval(low=0.0, high=100.0),
        action_latency_milliseconds=evaluator_pb2.LatencyPercentiles(p50=1.25, p99=2.5),
    )
)


class Evaluator(evaluator_pb2_grpc.EvaluatorServiceServicer):
    """Tells a story."""

    def __init__(self) -> None:
        self.story = [PROGRESS, REPORT]
        self.asked: list[evaluator_pb2.EvaluateRequest] = []
        self.ends_with = ""
        self.shadows_asked: list[evaluator_pb2.EvaluateShadowRequest] = []

    async def EvaluateShadow(  # noqa: N802 - gRPC's name
        self, request: evaluator_pb2.EvaluateShadowRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.EvaluateShadowResponse]:
        self.shadows_asked.append(request)
        for compared in (0, 200):
            report = evaluator_pb2.ShadowReport(policy="cartpole", serving=[3], shadow=4, compared=compared, seconds=2)
            if compared:
                report.agreement, report.mean_distance = 0.75, 0.125
                report.agreement_interval.CopyFrom(evaluator_pb2.Interval(low=0.7, high=0.8))
            yield evaluator_pb2.EvaluateShadowResponse(report=report)

    async def Evaluate(  # noqa: N802 - gRPC's name
        self, request: evaluator_pb2.EvaluateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[evaluator_pb2.EvaluateResponse]:
        self.asked.append(request)
        for event in self.story:
            yield event
        if self.ends_with:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.ends_with)


@pytest.fixture
def evaluator(steersman: CommandLine) -> Iterator[Evaluator]:
    servicer = Evaluator()  # type: ignore[abstract] # nothing else is asked for
    with served(Service(evaluator_pb2.DESCRIPTOR.services_by_name["EvaluatorService"], servicer)) as address:
        steersman.configure(evaluator_address=address)
        yield servicer


@pytest.mark.usefixtures("evaluator")
def test_a_report_is_a_table(steersman: CommandLine) -> None:
    result = steersman("evaluate", "cartpole")
    assert result.exit_code == 0
    for words in ("cartpole:3", "50.00 (95% interval 0.00 to 100.00)", "p50 1.25 ms, p99 2.50 ms"):
        assert words in result.output


def test_a_report_is_json_and_the_request_is_what_was_asked_for(steersman: CommandLine, evaluator: Evaluator) -> None:
    options = ["--episodes", "2", "--seed", "7", "--num-environments", "1", "--environment", "CartPole-v1"]
    result = steersman("evaluate", "cartpole:3", *options, "--environment-set", "max_episode_steps=9", "--json")
    assert [episode["episode_return"] for episode in json.loads(result.output)["episodes"]] == [0, 100]
    (asked,) = evaluator.asked
    assert (asked.policy, asked.episodes, asked.seed, asked.num_environments) == ("cartpole:3", 2, 7, 1)
    assert (asked.environment_id, dict(asked.environment_kwargs)) == ("CartPole-v1", {"max_episode_steps": 9})


@pytest.mark.usefixtures("terminal")
def test_progress_is_shown_beside_the_result(steersman: CommandLine, evaluator: Evaluator) -> None:
    evaluator.story = [PROGRESS]
    result = steersman("evaluate", "cartpole", "--json")
    assert result.exit_code == 1
    assert result.output == ""
    assert "1 of 2 episodes, 1,234 steps, mean 17.5 so far" in result.errors
    assert "expected a report at the end of the evaluation, got none" in result.errors


def test_a_suite_is_one_table_of_policies_and_environments(
    steersman: CommandLine, evaluator: Evaluator, tmp_path: Path
) -> None:
    suite = tmp_path / "nightly.toml"
    suite.write_text(
        'policies = ["cartpole:3", "cartpole@champion"]\nepisodes = 7\nseed = 5\nreferences = ["random"]\n'
        '[[environments]]\nid = "CartPole-v1"\n[environments.kwargs]\nmax_episode_steps = 9\n[[environments]]\n'
    )
    rows = json.loads(steersman("evaluate", "--suite", str(suite), "--json").output)
    assert [row["mean"] for row in rows] == [50.0] * 4
    assert [(asked.policy, asked.environment_id) for asked in evaluator.asked] == [
        ("cartpole:3", "CartPole-v1"),
        ("cartpole@champion", "CartPole-v1"),
        ("cartpole:3", ""),
        ("cartpole@champion", ""),
    ]
    first = evaluator.asked[0]
    assert (first.episodes, first.seed, list(first.references)) == (7, 5, ["random"])
    assert dict(first.environment_kwargs) == {"max_episode_steps": 9}
    assert "0.00 to 100.00" in steersman("evaluate", "--suite", str(suite)).output


def test_an_evaluation_that_fails_leaves_the_rest_of_its_suite(
    steersman: CommandLine, evaluator: Evaluator, tmp_path: Path
) -> None:
    evaluator.story = [PROGRESS]
    suite = tmp_path / "nightly.toml"
    suite.write_text('policies = ["one", "two"]\n')
    result = steersman("evaluate", "--suite", str(suite))
    assert result.exit_code == 1
    assert "but 2 did not" in result.errors
    assert result.output.count("expected a report at the end of the evaluation, got none") == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("policies = []", "at least one policy"),
        ('policies = "cartpole"', "a list of texts for policies"),
        ('policies = ["a"]\nepisode = 3', "got episode"),
        ('policies = ["a"]\nepisodes = "many"', "a whole number of at least 0 for episodes"),
        ('policies = ["a"]\n[[environments]]\nname = "b"', "with id and kwargs"),
        ("policies = [", "cannot read the suite"),
    ],
)
@pytest.mark.usefixtures("evaluator")
def test_a_suite_that_is_none_is_refused(steersman: CommandLine, tmp_path: Path, text: str, words: str) -> None:
    suite = tmp_path / "bad.toml"
    suite.write_text(text)
    result = steersman("evaluate", "--suite", str(suite))
    assert result.exit_code == 1
    assert words in result.errors


@pytest.mark.usefixtures("evaluator")
def test_a_policy_or_a_suite_is_needed(steersman: CommandLine) -> None:
    assert "either a policy or --suite" in steersman("evaluate").errors


def test_a_partial_report_is_printed_before_the_error(steersman: CommandLine, evaluator: Evaluator) -> None:
    partial = evaluator_pb2.EvaluateResponse()
    partial.CopyFrom(REPORT)
    partial.report.partial, partial.report.problem = True, "the environment raised"
    evaluator.story, evaluator.ends_with = [PROGRESS, partial], "the environment raised"
    result = steersman("evaluate", "cartpole")
    assert result.exit_code == 1
    assert "2, partial: the environment raised" in result.output
    assert "Error: the environment raised" in result.errors


def test_wrappers_code_films_and_disturbances_are_asked_for(
    steersman: CommandLine, evaluator: Evaluator, tmp_path: Path
) -> None:
    options = ["--video", "3", "--wrapper", 'boat:Sail{"area": 3}', "--working-dir", str(tmp_path)]
    disturbances = ["noise=0.1,0.3", "drop=0.5", "delay=2", "gravity=0.5,2"]
    result = steersman("evaluate", "cartpole", *options, *(f"--disturb={each}" for each in disturbances))
    assert result.exit_code == 0, result.errors
    (asked,) = evaluator.asked
    assert (asked.videos, asked.code.working_dir) == (3, str(tmp_path))
    assert (asked.wrappers[0].path, dict(asked.wrappers[0].kwargs)) == ("boat:Sail", {"area": 3})
    assert [(each.kind, each.attribute, list(each.strengths)) for each in asked.disturbances] == [
        (evaluator_pb2.DISTURBANCE_KIND_OBSERVATION_NOISE, "", [0.1, 0.3]),
        (evaluator_pb2.DISTURBANCE_KIND_DROPPED_ACTIONS, "", [0.5]),
        (evaluator_pb2.DISTURBANCE_KIND_DELAYED_ACTIONS, "", [2]),
        (evaluator_pb2.DISTURBANCE_KIND_PARAMETER, "gravity", [0.5, 2]),
    ]


@pytest.mark.parametrize("text", ["gravity", "=1", "noise=", "noise=much"])
def test_a_disturbance_that_is_none_is_refused(steersman: CommandLine, evaluator: Evaluator, text: str) -> None:
    result = steersman("evaluate", "cartpole", "--disturb", text)
    assert result.exit_code == 1
    assert f"a disturbance like noise=0.1,0.3 or gravity=0.5,2, got {text!r}" in result.errors
    assert not evaluator.asked


def test_curves_and_films_are_shown(steersman: CommandLine, evaluator: Evaluator) -> None:
    told = evaluator_pb2.EvaluateResponse()
    told.CopyFrom(REPORT)
    told.report.videos.add(episode=1, files=["episode-1.mp4", "episode-1.gif"], exact=True)
    told.report.videos.add(episode=0, files=["episode-0.mp4"], episode_return=7.0)
    curve = told.report.robustness.add()
    curve.disturbance.attribute, curve.disturbance.kind = "gravity", evaluator_pb2.DISTURBANCE_KIND_PARAMETER
    curve.points.add(strength=0.5, mean=41.5)
    curve = told.report.robustness.add()
    curve.disturbance.kind = evaluator_pb2.DISTURBANCE_KIND_DELAYED_ACTIONS
    curve.points.add(strength=3, mean=12.25, success_rate=0.5)
    evaluator.story = [told]
    output = steersman("evaluate", "cartpole").output
    for words in ("episode-1.mp4 and episode-1.gif", "not the same again: return 7.00", "gravity", "41.50"):
        assert words in output
    for words in ("delay", "12.25", "50.0%"):
        assert words in output


def test_a_shadow_is_followed(steersman: CommandLine, evaluator: Evaluator) -> None:
    output = steersman("evaluate", "cartpole", "--shadow", "--seconds", "2", "--compared", "150").output
    for words in ("cartpole:3", "cartpole:4", "200 in 2 s", "75.00% (95% interval 70.00 to 80.00)", "0.125"):
        assert words in output
    assert json.loads(steersman("evaluate", "cartpole", "--shadow", "--json").output)["compared"] == 200
    assert [(asked.policy, asked.seconds, asked.compared) for asked in evaluator.shadows_asked] == [
        ("cartpole", 2.0, 150),
        ("cartpole", 0.0, 0),
    ]
