"""How actions are chosen, and what an answer brings besides them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from services.common.bundle import Bundle
from services.policy.runtime import PolicyRuntime
from steersman.aio import ActOptions, PolicyClient
from steersman.errors import FailedPreconditionError
from tests.bundles import write_counting_bundle
from tests.gateways import GatewayProcess, attached_replica

pytestmark = pytest.mark.integration

BATCH = np.random.default_rng(5).normal(size=(32, 4)).astype(np.float32)
EXTRAS = ("log_probability", "action_distribution_inputs")


def sampled(seed: int | None) -> ActOptions:
    return ActOptions(deterministic=False, seed=seed, extras=EXTRAS)


async def test_a_seed_draws_the_same_alone_batched_and_under_load(gateway: GatewayProcess, bundle: Bundle) -> None:
    async with (
        # Small batches, so that the large request is split over several.
        attached_replica(gateway, "linear", {1: bundle}, max_batch_size=8),
        PolicyClient("linear", address=gateway.address) as client,
    ):
        alone = await client.request(BATCH, sampled(7))
        assert len(set(alone.action.tolist())) > 1
        # Others with and without seeds around it; batches form in another way each time.
        others = [client.request(BATCH[:3], sampled(seed)) for seed in (*range(20), None)]
        crowd = asyncio.gather(*others, *(client.request(row) for row in BATCH))
        again = await client.request(BATCH, sampled(7))
        await crowd
        np.testing.assert_array_equal(again.action, alone.action)
        first = await client.request(BATCH[0], sampled(7))
        assert first.action == alone.action[0]
        assert (await client.request(BATCH[:5], sampled(7))).action.tolist() == alone.action[:5].tolist()


async def test_draws_follow_the_distribution_and_differ(gateway: GatewayProcess, bundle: Bundle) -> None:
    observation = np.repeat(BATCH[:1], 5000, axis=0)
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        PolicyClient("linear", address=gateway.address) as client,
    ):
        answer = await client.request(observation, sampled(1))
        unseeded = [await client.request(observation[:64], sampled(None)) for _ in range(2)]
    assert unseeded[0].action.tolist() != unseeded[1].action.tolist()
    logits = answer.extras["action_distribution_inputs"][0].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    shares = np.bincount(answer.action, minlength=len(probabilities)) / len(observation)
    # Five standard deviations.
    assert np.all(np.abs(shares - probabilities) < 5 * np.sqrt(probabilities / len(observation)) + 1e-9)


async def test_extras_come_with_the_shape_of_the_question(gateway: GatewayProcess, bundle: Bundle) -> None:
    computed = PolicyRuntime(bundle)
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        PolicyClient("linear", address=gateway.address) as client,
    ):
        greedy = await client.request(BATCH, ActOptions(extras=EXTRAS))
        np.testing.assert_array_equal(greedy.action, computed.compute({"observation": BATCH})["action"])
        for answer in (greedy, await client.request(BATCH, sampled(3))):
            logits = answer.extras["action_distribution_inputs"].astype(np.float64)
            assert logits.shape == (32, 7)
            log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            expected = log_probabilities[np.arange(32), answer.action]
            np.testing.assert_allclose(answer.extras["log_probability"], expected, rtol=1e-4)
        single = await client.request(BATCH[0], ActOptions(extras=EXTRAS))
        assert single.extras["action_distribution_inputs"].shape == (7,)
        assert single.extras["log_probability"].shape == ()
        assert not (await client.request(BATCH[0])).extras


async def test_what_a_bundle_does_not_give_is_refused(gateway: GatewayProcess, bundle: Bundle, tmp_path: Path) -> None:
    counting = write_counting_bundle(tmp_path)
    async with (
        attached_replica(gateway, "linear", {1: bundle}),
        attached_replica(gateway, "counting", {1: counting}),
        PolicyClient("linear", address=gateway.address) as linear,
        PolicyClient("counting", address=gateway.address) as with_value,
    ):
        with pytest.raises(FailedPreconditionError, match="expected a bundle that gives 'value'"):
            await linear.request(BATCH[0], ActOptions(extras=["value"]))
        ones = np.ones((3, 1), np.float32)
        assert (await with_value.request(ones, ActOptions(extras=["value"]))).extras["value"].tolist() == [0, 0, 0]
        with pytest.raises(FailedPreconditionError, match="expected a bundle that gives 'log_probability'"):
            await with_value.request(ones, ActOptions(extras=["log_probability"]))
