from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.trainer.job.iteration_log import swept
from services.trainer.job.trainable import trial_number
from steersman.v1.trainer_pb2 import Iteration, Trial


@given(told=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 100), st.floats(-5, 5)), min_size=1, max_size=20))
def test_a_sweep_counts_over_all_of_its_trials(told: list[tuple[int, int, float]]) -> None:
    trials: dict[int, Trial] = {}
    newest, best = Iteration(), None
    for count, (number, steps, value) in enumerate(told, start=1):
        trial = trials.setdefault(number, Trial(number=number))
        latest = trial.latest
        trial.latest.CopyFrom(
            Iteration(
                iteration=latest.iteration + 1,
                steps=latest.steps + steps,
                seconds=latest.seconds + 1,
                training_return=value,
                best_training_return=value,
            )
        )
        newest = swept(newest, number, trial.latest, list(trials.values()))
        best = value if best is None else max(best, value)
        assert (newest.iteration, newest.trial) == (count, number)
        assert newest.training_return == value
        assert newest.best_training_return == best
        assert not newest.HasField("best_evaluated_return")
    assert newest.steps == sum(steps for _, steps, _ in told)
    assert newest.seconds == len(told)


def test_numbers_of_trials() -> None:
    assert trial_number("8f2b1_00000") == 1
    assert trial_number("8f2b1_00041") == 42
