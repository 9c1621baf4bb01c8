"""Evaluations through a real gateway; without Ray, which makes no difference to the evaluator."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import time
from pathlib import Path

import grpc
import gymnasium
import pytest
from google.protobuf import json_format

from deploy.free_ports import free_address
from services.common.bundle import Bundle
from services.evaluator.judge.archive import Archive
from services.policy.runtime import PolicyRuntime
from steersman import spaces
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc
from tests.bundles import write_counting_bundle, write_linear_bundle
from tests.gateways import GatewayProcess, attached_replica
from tests.integration.services.evaluator.serving import evaluator, played_here, report_of

pytestmark = pytest.mark.integration


async def test_a_report_says_what_was_served(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "cartpole", {3: bundle}), evaluator(gateway.address) as stub:
        request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=6, num_environments=4, seed=10)
        report = await report_of(stub, request)
        again = await report_of(stub, request)
    assert (report.policy, report.version, report.environment_id) == ("cartpole", 3, "CartPole-v1")
    assert report.model_sha256 == bundle.spec.model_sha256
    assert [episode.seed for episode in report.episodes] == list(range(10, 16))
    returns = [episode.episode_return for episode in report.episodes]
    assert returns == [played_here(bundle, seed) for seed in range(10, 16)]
    assert report.mean == pytest.approx(sum(returns) / 6)
    assert report.mean_interval.low <= report.mean <= report.mean_interval.high
    assert report.minimum == min(returns)
    assert report.steps == sum(episode.length for episode in report.episodes)
    assert 0 < report.action_latency_milliseconds.p50 <= report.action_latency_milliseconds.p99
    assert list(again.episodes) == list(report.episodes), "the same request twice gives the same report"


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"policy": "nobody"}, grpc.StatusCode.NOT_FOUND, "'nobody'"),
        ({"environment_id": "CartPol-v1"}, grpc.StatusCode.INVALID_ARGUMENT, "near matches: CartPole-v1"),
        (
            {"environment_id": "Pendulum-v1"},
            grpc.StatusCode.INVALID_ARGUMENT,
            "expected an environment with observation space Box([-4.8",
        ),
        ({"environment_id": "antigravity:CartPole-v1"}, grpc.StatusCode.INVALID_ARGUMENT, "comes with `code`"),
        (
            {"wrappers": [{"path": "gymnasium.wrappers:NoSuch"}]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "cannot import the wrapper 'gymnasium.wrappers:NoSuch'",
        ),
        ({"code": {"working_dir": "/no/such"}}, grpc.StatusCode.INVALID_ARGUMENT, "got '/no/such'"),
        ({"longest_seconds": -1}, grpc.StatusCode.INVALID_ARGUMENT, "longest_seconds of at least 0, got -1"),
        ({"videos": 17, "record": True}, grpc.StatusCode.INVALID_ARGUMENT, "at most 16 videos, got 17"),
        ({"videos": 1}, grpc.StatusCode.INVALID_ARGUMENT, "a report that is kept"),
        (
            {"disturbances": [{"kind": 4, "attribute": "gravitas", "strengths": [2]}]},
            grpc.StatusCode.INVALID_ARGUMENT,
            "near matches: gravity",
        ),
        ({"environment_kwargs": {"no_such": 1}}, grpc.StatusCode.INVALID_ARGUMENT, "no_such"),
        ({"environment_kwargs": {"x": float("nan")}}, grpc.StatusCode.INVALID_ARGUMENT, "JSON"),
        ({"policy": "cartpole:9"}, grpc.StatusCode.NOT_FOUND, "9"),
        ({"seed": 2**64 - 2}, grpc.StatusCode.INVALID_ARGUMENT, "expected a seed of at most 18446744073709551596"),
        (
            {"environment_id": "Misbehaving-v0", "environment_kwargs": {"how": "raise"}},
            grpc.StatusCode.FAILED_PRECONDITION,
            "the environment raised RuntimeError: out of order",
        ),
        (
            {"environment_id": "Misbehaving-v0", "environment_kwargs": {"how": "crash"}},
            grpc.StatusCode.FAILED_PRECONDITION,
            "took its process down",
        ),
        (
            {
                "environment_id": "Misbehaving-v0",
                "environment_kwargs": {"how": "hang"},
                "step_timeout_seconds": 0.5,
            },
            grpc.StatusCode.FAILED_PRECONDITION,
            "did not return from a reset or a step in 0.5 s",
        ),
        ({"episodes": 0}, grpc.StatusCode.INVALID_ARGUMENT, "got 0"),
        ({"references": ["nobody"]}, grpc.StatusCode.NOT_FOUND, "nobody"),
        ({"references": ["random", "random"]}, grpc.StatusCode.INVALID_ARGUMENT, "each reference once"),
        ({"step_timeout_seconds": -1.0}, grpc.StatusCode.INVALID_ARGUMENT, "above 0"),
        ({"num_workers": 1000}, grpc.StatusCode.INVALID_ARGUMENT, "got 1000"),
        ({"episodes": 10_000_000}, grpc.StatusCode.INVALID_ARGUMENT, "got 10000000"),
        ({"num_environments": 100_000}, grpc.StatusCode.INVALID_ARGUMENT, "got 100000"),
    ],
)
async def test_bad_evaluations_are_refused(
    gateway: GatewayProcess, bundle: Bundle, fields: dict[str, object], code: grpc.StatusCode, words: str
) -> None:
    request = evaluator_pb2.EvaluateRequest(**({"policy": "cartpole"} | fields))  # type: ignore[arg-type]
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_of(stub, request)
    assert refused.value.code() == code
    assert words in (refused.value.details() or "")


async def test_without_a_gateway_it_is_unavailable_and_says_which() -> None:
    nobody = free_address()
    async with evaluator(nobody) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_of(stub, evaluator_pb2.EvaluateRequest(policy="cartpole"))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert (refused.value.details() or "").startswith(f"no actions: cannot reach the gateway at {nobody}: ")


async def test_whole_numbers_reach_the_environment_as_integers(gateway: GatewayProcess, bundle: Bundle) -> None:
    request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=3)
    request.environment_kwargs.update({"max_episode_steps": 4})
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        report = await report_of(stub, request)
    assert [(episode.length, episode.truncated, episode.terminated) for episode in report.episodes] == [
        (4, True, False)
    ] * 3


async def test_one_version_answers_all_of_an_evaluation(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    """A version that is deployed in the middle takes the policy's traffic, but not the evaluation's."""
    newer = write_linear_bundle(tmp_path, seed=5, bounds=bundle.spec.observation_space)
    async with attached_replica(gateway, "cartpole", {1: bundle}) as replica, evaluator(gateway.address) as stub:
        request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=40, num_environments=1)
        events = aiter(stub.Evaluate(request))
        assert (await anext(events)).progress.episodes_done < 40
        # What is held already is not loaded again.
        await replica.load({1: lambda: PolicyRuntime(bundle), 2: lambda: PolicyRuntime(newer)})
        report = [event async for event in events][-1].report
        after = await report_of(stub, request)
    assert (report.version, report.model_sha256) == (1, bundle.spec.model_sha256)
    assert (after.version, after.model_sha256) == (2, newer.spec.model_sha256)
    assert [episode.episode_return for episode in report.episodes] == [played_here(bundle, seed) for seed in range(40)]


async def test_a_version_that_goes_in_the_middle_ends_the_evaluation(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    newer = write_linear_bundle(tmp_path, seed=5, bounds=bundle.spec.observation_space)
    async with attached_replica(gateway, "cartpole", {1: bundle}) as replica, evaluator(gateway.address) as stub:
        events = aiter(stub.Evaluate(evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=100_000)))
        await anext(events)
        await replica.load({2: lambda: PolicyRuntime(newer)})
        # No report mixes versions.
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            [event async for event in events]
    assert ended.value.code() == grpc.StatusCode.NOT_FOUND
    # The gateway says it in other words to a request that waits already than to one that comes after.
    assert re.search(r"policy 'cartpole'.*(unloaded it|got 1)$", ended.value.details() or "")


async def test_a_policy_with_memory_keeps_it_through_an_episode(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The policy acts with the sum of what it saw; the environment rewards only that, and seeds make lengths differ."""
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        request = evaluator_pb2.EvaluateRequest(
            policy="counting", environment_id="Summing-v0", episodes=7, num_environments=3
        )
        report = await report_of(stub, request)
    assert [episode.length for episode in report.episodes] == [2, 3, 4, 5, 2, 3, 4]
    assert [episode.episode_return for episode in report.episodes] == [2, 3, 4, 5, 2, 3, 4]
    assert report.success_rate == 1.0
    assert (report.terminated, report.truncated) == (7, 0)


async def test_cancelling_the_call_stops_the_evaluation_within_a_second(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        request = evaluator_pb2.EvaluateRequest(
            policy="counting", environment_id="Summing-v0", episodes=100_000, num_environments=5, num_workers=2
        )
        call = stub.Evaluate(request)
        first = await call.read()
        assert isinstance(first, evaluator_pb2.EvaluateResponse)
        assert len(multiprocessing.active_children()) == 2
        call.cancel()
        began = time.monotonic()
        assert await call.code() == grpc.StatusCode.CANCELLED
        for process in multiprocessing.active_children():
            await asyncio.to_thread(process.join, 10)
        assert not multiprocessing.active_children()
        # Less than a second on a machine with nothing else to do.
        assert time.monotonic() - began < 5


def kept_report(folder: Path) -> evaluator_pb2.EvaluationReport:
    (written,) = folder.glob("*/report.json")
    return json_format.Parse(written.read_text(), evaluator_pb2.EvaluationReport())


async def test_what_was_played_before_the_call_was_cancelled_is_kept(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    archive = Archive(tmp_path, f"http://{free_address()}")
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address, archive) as stub:
        call = stub.Evaluate(evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=100_000, record=True))
        done = 0
        while not done:
            event = await call.read()
            assert isinstance(event, evaluator_pb2.EvaluateResponse)
            done = event.progress.episodes_done
        call.cancel()
    # The evaluator has stopped by now, and with it whatever it was asked.
    await archive.until_kept()
    report = kept_report(tmp_path)
    assert report.partial
    assert report.problem == "it was cancelled"
    assert len(report.episodes) >= done


@pytest.mark.parametrize(
    ("how", "words"), [("raise", "out of order"), ("hang", "did not return"), ("crash", "took its process down")]
)
async def test_what_was_played_before_a_problem_is_reported_as_partial(
    gateway: GatewayProcess, bundle: Bundle, how: str, words: str
) -> None:
    request = evaluator_pb2.EvaluateRequest(
        policy="cartpole", environment_id="Misbehaving-v0", episodes=400, num_environments=2, step_timeout_seconds=1
    )
    request.environment_kwargs.update({"how": how, "since": 300})
    report = evaluator_pb2.EvaluationReport()
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        call = stub.Evaluate(request)
        while not report.partial:
            event = await call.read()
            assert isinstance(event, evaluator_pb2.EvaluateResponse)
            report = event.report
        code, details = await call.code(), await call.details()
    assert report.partial
    assert words in report.problem
    assert report.problem == details
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    # What a process had not told when it was gone is not there.
    assert 0 < len(report.episodes) <= 300
    assert all((episode.length, episode.episode_return) == (2, 2.0) for episode in report.episodes)


async def test_references_play_the_same_episodes(gateway: GatewayProcess, bundle: Bundle, tmp_path: Path) -> None:
    other = write_linear_bundle(tmp_path, seed=5, bounds=bundle.spec.observation_space)
    names = ["random", "constant", "cartpole:2", "sampled"]
    request = evaluator_pb2.EvaluateRequest(policy="cartpole:1", episodes=9, seed=3, references=names)
    async with attached_replica(gateway, "cartpole", {1: bundle, 2: other}), evaluator(gateway.address) as stub:
        report = await report_of(stub, request)
        again = await report_of(stub, request)
    assert [reference.name for reference in report.references] == names
    for reference in report.references:
        assert [row.seed for row in reference.episodes] == [row.seed for row in report.episodes]
        assert reference.mean == pytest.approx(sum(row.episode_return for row in reference.episodes) / 9)
        assert 0 <= reference.probability_of_improvement <= 1
    assert list(again.references) == list(report.references), "drawn with seeds, too"
    assert [row.episode_return for row in report.references[2].episodes] == [
        played_here(other, 3 + i) for i in range(9)
    ]


async def test_the_number_of_workers_changes_nothing(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        reports = [
            await report_of(
                stub, evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=12, num_environments=n, num_workers=w)
            )
            for n, w in ((1, 1), (5, 2), (12, 3))
        ]
    assert list(reports[0].episodes) == list(reports[1].episodes) == list(reports[2].episodes)


async def test_progress_comes_about_ten_times_a_second(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        request = evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=60, num_environments=2)
        events = [event async for event in stub.Evaluate(request)]
    *progress, last = events
    assert 2 <= len(progress) <= 10 * last.report.seconds + 1
    steps = [event.progress.steps for event in progress]
    assert steps == sorted(steps)
    assert steps[-1] == last.report.steps


def standing_still(folder: Path) -> Bundle:
    """A policy for the corridor that never takes another action than the first one where it sees zeros."""
    return write_linear_bundle(folder, 1, bounds=spaces.from_gymnasium(gymnasium.spaces.Box(0.0, 1.0, (1,))))


async def test_episodes_without_an_end_are_cut_and_the_report_is_partial(
    gateway: GatewayProcess, tmp_path: Path
) -> None:
    """stable-baselines#876: doing nothing is allowed, the policy is deterministic, and there is no time limit."""
    request = evaluator_pb2.EvaluateRequest(
        policy="still", environment_id="Corridor-v0", episodes=5, longest_episode_steps=200, references=["constant"]
    )
    async with (
        attached_replica(gateway, "still", {1: standing_still(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        report = await report_of(stub, request)
        request.environment_id = "CorridorTruncating-v0"
        by_itself = await report_of(stub, request)
    assert [(row.length, row.cut, row.truncated, row.terminated) for row in report.episodes] == [
        (200, True, False, False)
    ] * 5
    assert report.partial
    assert report.cut == 5
    assert "5 episodes had not ended within 200 steps and were cut there; where" in report.problem
    assert all(row.cut for row in report.references[0].episodes)
    assert [(row.length, row.cut, row.truncated) for row in by_itself.episodes] == [(50, False, True)] * 5
    assert not by_itself.partial


async def test_when_the_time_is_over_there_is_a_partial_report(gateway: GatewayProcess, tmp_path: Path) -> None:
    request = evaluator_pb2.EvaluateRequest(
        policy="still",
        environment_id="Corridor-v0",
        episodes=5,
        num_environments=2,
        longest_episode_steps=2**62,
        longest_seconds=1,
        references=["constant"],
    )
    async with (
        attached_replica(gateway, "still", {1: standing_still(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        events = [event async for event in stub.Evaluate(request)]
        compared = evaluator_pb2.CompareRequest(
            policy="still", baseline="constant", environment_id="Corridor-v0", longest_seconds=1
        )
        with pytest.raises(grpc.aio.AioRpcError) as error:
            [event async for event in stub.Compare(compared)]
    report = events[-1].report
    assert report.partial
    assert [(row.episode, row.cut) for row in report.episodes] == [(0, True), (1, True)]
    assert "and were cut there, and 3 were not begun" in report.problem
    assert not report.references, "there was no time left for them"
    assert max(event.progress.longest_episode_steps for event in events) > 0
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "did not end within 1 s" in (error.value.details() or "")


async def comparison_of(
    stub: evaluator_pb2_grpc.EvaluatorServiceAsyncStub, **fields: object
) -> evaluator_pb2.Comparison:
    request = evaluator_pb2.CompareRequest(**fields)  # type: ignore[arg-type]
    events = [event async for event in stub.Compare(request)]
    assert all(event.HasField("progress") for event in events[:-1])
    return events[-1].comparison


async def test_a_comparison_is_of_pairs_on_the_same_seeds(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    other = write_linear_bundle(tmp_path, seed=5, bounds=bundle.spec.observation_space)
    async with attached_replica(gateway, "cartpole", {1: bundle, 2: other}), evaluator(gateway.address) as stub:
        found = await comparison_of(stub, policy="cartpole:1", baseline="cartpole:2", episodes=12, seed=4)
        reverse = await comparison_of(stub, policy="cartpole:2", baseline="cartpole:1", episodes=12, seed=4)
    ours = [played_here(bundle, seed) for seed in range(4, 16)]
    theirs = [played_here(other, seed) for seed in range(4, 16)]
    assert [row.episode_return for row in found.policy.episodes] == ours
    assert [row.episode_return for row in found.baseline.episodes] == theirs
    assert found.difference == pytest.approx((sum(ours) - sum(theirs)) / 12)
    assert found.difference_interval.low <= found.difference <= found.difference_interval.high
    assert (found.policy.version, found.baseline.version, found.pairs, found.looks) == (1, 2, 12, 1)
    assert reverse.difference == -found.difference
    assert reverse.probability_of_improvement == pytest.approx(1 - found.probability_of_improvement)


async def test_a_sequential_comparison_stops_when_it_can_tell(gateway: GatewayProcess, tmp_path: Path) -> None:
    """The policy that remembers gets every reward, and the constant one hardly any."""
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        common = {"policy": "counting", "environment_id": "Summing-v0", "episodes": 640, "sequential": True}
        found = await comparison_of(stub, **common, baseline="constant")
        same = await comparison_of(stub, **common | {"episodes": 200}, baseline="counting:1")
    assert found.verdict == evaluator_pb2.VERDICT_BETTER
    assert (found.pairs, found.looks, found.further_pairs, found.HasField("further_pairs")) == (160, 1, 0, True)
    assert same.verdict == evaluator_pb2.VERDICT_UNCLEAR
    assert (same.pairs, same.looks, same.difference, same.HasField("further_pairs")) == (200, 2, 0.0, False)
    assert same.interval_method == evaluator_pb2.INTERVAL_METHOD_STUDENT


async def test_bounds_of_returns_let_it_look_earlier(gateway: GatewayProcess, tmp_path: Path) -> None:
    async with (
        attached_replica(gateway, "counting", {1: write_counting_bundle(tmp_path)}),
        evaluator(gateway.address) as stub,
    ):
        found = await comparison_of(
            stub,
            policy="counting",
            baseline="constant",
            environment_id="Summing-v0",
            episodes=640,
            sequential=True,
            return_bounds={"low": 0.0, "high": 5.0},
        )
    assert found.verdict == evaluator_pb2.VERDICT_BETTER
    assert found.interval_method == evaluator_pb2.INTERVAL_METHOD_EMPIRICAL_BERNSTEIN
    assert found.pairs < 160


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sequential": True, "episodes": 159}, "at least 160 episodes"),
        ({"return_bounds": {"low": 5.0, "high": 5.0}}, "bounds of returns, the lower one first, got 5 and 5"),
        ({"return_bounds": {"low": 0.0, "high": 5.0}, "episodes": 3}, "expected returns from 0 to 5"),
        ({"error_rate": 1.5}, "got 1.5"),
        ({"episodes": 0}, "got 0"),
        ({"baseline": ""}, "expected an address"),
    ],
)
async def test_bad_comparisons_are_refused(
    gateway: GatewayProcess, bundle: Bundle, fields: dict[str, object], words: str
) -> None:
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await comparison_of(stub, **({"policy": "cartpole", "baseline": "random"} | fields))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert words in (refused.value.details() or "")
