from __future__ import annotations

import math

import numpy as np
import pytest

from services.trainer.job.rllib_results import check_loss, check_weights, iteration_of


def test_result_of_an_iteration_in_which_no_episode_ended() -> None:
    result = {
        "training_iteration": 1,
        "num_env_steps_sampled_lifetime": 64.0,
        "time_total_s": 0.5,
        "env_runners": {"episode_return_mean": math.nan},
    }
    iteration = iteration_of(result)
    assert (iteration.iteration, iteration.steps, iteration.seconds) == (1, 64, 0.5)
    assert not iteration.HasField("training_return")
    assert not iteration.HasField("episode_length")


def test_result_of_an_iteration_in_which_one_did() -> None:
    result = {
        "training_iteration": 2,
        "num_env_steps_sampled_lifetime": 128,
        "time_total_s": 1.0,
        "env_runners": {"episode_return_mean": 20.0, "episode_len_mean": 21.0},
    }
    iteration = iteration_of(result)
    assert (iteration.training_return, iteration.episode_length) == (20.0, 21.0)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_named(loss: float) -> None:
    check_loss(3, {"learners": {"default_policy": {"total_loss": 0.5}, "__all_modules__": {}}})
    with pytest.raises(FloatingPointError, match=rf"default_policy was {loss} in iteration 3"):
        check_loss(3, {"learners": {"default_policy": {"total_loss": loss}}})


def test_weights_that_are_no_numbers_are_not_kept() -> None:
    weights = {"bias": np.zeros(1, np.float32), "weight": np.ones((1, 2), np.float32)}
    check_weights(3, {"default_policy": weights})
    weights["bias"][0] = math.nan
    with pytest.raises(FloatingPointError, match=r"\(bias\) were not finite after iteration 3"):
        check_weights(3, {"default_policy": weights})


def test_losses_and_timers_of_an_iteration() -> None:
    result = {
        "training_iteration": 1,
        "num_env_steps_sampled_lifetime": 64,
        "time_total_s": 0.5,
        "learners": {"default_policy": {"vf_loss": 2.0, "entropy": 0.5, "num_trainable_parameters": 9}},
        "timers": {"learner_update_timer": 0.25, "env_runner_sampling_timer": math.nan},
    }
    iteration = iteration_of(result)
    assert dict(iteration.losses) == {"vf_loss": 2.0, "entropy": 0.5}
    assert (iteration.learner_seconds, iteration.sampler_seconds) == (0.25, 0.0)
