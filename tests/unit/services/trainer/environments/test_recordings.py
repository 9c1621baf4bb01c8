from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from services.trainer.environments.environment_spaces import EnvironmentSpaces
from services.trainer.environments.recordings import open_dataset, read_episodes
from services.trainer.export.action_fit import fit_action, unfit_action
from steersman.errors import InvalidArgumentError, SteersmanError
from steersman.recording import record
from tests import odd_environments as odd
from tests import odd_names
from tests.integration.services.trainer import unusual_environments
from tests.integration.services.trainer.combinations import NESTED, NESTED_ACTION

unusual_environments.register()

FORCE = Box(-1.0, 1.0, (2,), np.float32)
IMAGE = Box(0, 255, (3, 4, 1), np.uint8)


def any_environment(observations: Space[Any], actions: Space[Any]) -> gymnasium.Env[Any, Any]:
    made = gymnasium.make(unusual_environments.ANY, observation_space=observations, action_space=actions)
    made.reset(seed=7)
    return made


@pytest.mark.parametrize(
    ("observations", "actions"),
    [
        (Box(-1.0, 1.0, (3,), np.float64), Discrete(3)),
        (IMAGE, Discrete(3, start=4)),
        (Discrete(5), MultiDiscrete([2, 3])),
        (MultiBinary(3), FORCE),
        (NESTED, NESTED_ACTION),
        (Dict({"a": IMAGE}), Tuple((Discrete(2), FORCE))),
    ],
    ids=str,
)
def test_what_is_recorded_is_read(observations: Space[Any], actions: Space[Any], tmp_path: Path) -> None:
    made = record(lambda: any_environment(observations, actions), tmp_path / "set", episodes=3)
    episodes = read_episodes(str(tmp_path / "set"), EnvironmentSpaces(observations, actions))
    assert (made.episodes, made.steps) == (3, sum(map(len, episodes))) == (3, 36)
    assert made.mean_return == pytest.approx(np.mean([episode.get_return() for episode in episodes]))
    for episode in episodes:
        assert episode.is_terminated
        for observation in episode.get_observations():
            assert observations.contains(observation)
        for action in episode.get_actions():
            assert actions.contains(action)


def test_an_environment_with_one_buffer_is_recorded_like_any_other(tmp_path: Path) -> None:
    tables = []
    for reuses in (True, False):
        folder = tmp_path / str(reuses)
        make = functools.partial(gymnasium.make, odd.BUFFERED, reuses=reuses)
        record(make, folder, episodes=40, seed=3)
        table = open_dataset(str(folder)).to_table().drop_columns(["eps_id"])
        assert table["obs"] != table["new_obs"]
        tables.append(table)
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("kind", odd.SOUND_REWARDS)
def test_rewards_of_one_number_are_recorded(kind: str, tmp_path: Path) -> None:
    made = record(lambda: gymnasium.make(odd.SCALES, reward=kind), tmp_path / kind, episodes=2, seed=3)
    plain = record(lambda: gymnasium.make(odd.SCALES), tmp_path / "plain", episodes=2, seed=3)
    assert made.mean_return == plain.mean_return


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gymnasium.make(odd.SCALES, reward="vector"), "a reward of one number"),
        (lambda: gymnasium.make(odd.SCALES, reward="nan"), "a finite reward"),
        (lambda: gymnasium.make(odd.THERMOSTAT, emits="late-nan"), "observations without NaN"),
        (lambda: gymnasium.make(odd.ROOM), "to record, got Text"),
    ],
)
def test_what_cannot_be_recorded_leaves_nothing(make: Any, message: str, tmp_path: Path) -> None:  # noqa: ANN401
    with pytest.raises(SteersmanError, match=message):
        record(make, tmp_path / "set", episodes=2)
    assert not list((tmp_path / "set").iterdir())


def test_an_action_that_cannot_move_is_learnt_from() -> None:
    space = Box(np.array([-1.0, 0.5], np.float32), np.array([3.0, 0.5], np.float32))
    assert unfit_action(space, np.array([2.0, 0.5], np.float32)).tolist() == [0.5, 0.0]
    assert fit_action(space, np.array([0.5, 0.0], np.float32)).tolist() == [2.0, 0.5]


class Clockwise:
    """Takes action 0, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def predict(
        self,
        observation: Sequence[Any],
        state: object = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        self.asked += len(observation)
        assert np.shape(np.asarray(episode_start)) == (len(observation),)
        return np.zeros(len(observation), np.int64), state


def test_a_policy_plays_and_random_actions_mix_in(tmp_path: Path) -> None:
    spaces = EnvironmentSpaces(*_spaces("CartPole-v1"))
    policy = Clockwise()
    record(lambda: gymnasium.make("CartPole-v1"), tmp_path / "pure", policy=policy, episodes=40)
    pure = read_episodes(str(tmp_path / "pure"), spaces)
    assert policy.asked
    assert len(pure) == 40
    assert {int(action) for episode in pure for action in episode.get_actions()} == {0}
    record(lambda: gymnasium.make("CartPole-v1"), tmp_path / "mixed", policy=policy, episodes=40, random_share=0.5)
    mixed = [
        int(action) for episode in read_episodes(str(tmp_path / "mixed"), spaces) for action in episode.get_actions()
    ]
    assert 0.1 < np.mean(mixed) < 0.4


def _spaces(environment_id: str) -> tuple[Space[Any], Space[Any]]:
    made = gymnasium.make(environment_id)
    return made.observation_space, made.action_space


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_a_dataset_may_lie_in_a_folder_of_any_name(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / odd_names.KINDS[kind]
    made = record(lambda: gymnasium.make("CartPole-v1"), folder, episodes=1)

    for given in (str(folder), folder.as_uri(), f"file://{folder}"):
        assert open_dataset(given).count_rows() == made.steps
    assert len(list(tmp_path.iterdir())) == 1


def test_recordings_are_not_overwritten(tmp_path: Path) -> None:
    record(lambda: gymnasium.make("CartPole-v1"), tmp_path, episodes=1)
    with pytest.raises(FileExistsError):
        record(lambda: gymnasium.make("CartPole-v1"), tmp_path, episodes=1)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot read the dataset"):
        open_dataset(str(tmp_path / "nothing"))
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(InvalidArgumentError, match="cannot read the dataset"):
        open_dataset(str(tmp_path / "text.parquet"))
    with pytest.raises(InvalidArgumentError, match="cannot read the dataset"):
        open_dataset("nosuchscheme://bucket/set")


def test_a_dataset_of_other_spaces_is_refused(tmp_path: Path) -> None:
    record(lambda: gymnasium.make("CartPole-v1"), tmp_path, episodes=1)
    with pytest.raises(InvalidArgumentError, match="got others in the dataset"):
        read_episodes(str(tmp_path), EnvironmentSpaces(*_spaces("Pendulum-v1")))
