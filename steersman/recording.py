"""Records episodes for algorithms that learn from such: Parquet files with the columns that RLlib reads.

Needs Gymnasium and pyarrow, which the extra `record` brings.

A row is a step: `eps_id`, `t`, `obs`, `actions`, `rewards`, `new_obs`, `terminateds`, `truncateds`. Observations and
actions are the environment's own. Arrays are lists, flat; the parts of Dict and Tuple spaces are fields of structs,
named by their keys or numbers. The rows of an episode follow each other in order.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from steersman.errors import InvalidArgumentError

if TYPE_CHECKING:
    import gymnasium

FILE = "episodes.parquet"
"""The file in a dataset's folder."""

LONGEST_EPISODE = 30_000
"""Steps after which an episode is cut: more than what any of Gymnasium's and Atari's own time limits allow."""

_MOST_ENVIRONMENTS = 32


class Predictor(Protocol):
    """What chooses actions; `PolicyClient` does, and so do Stable-Baselines3's models."""

    def predict(
        self,
        observation: Any,  # noqa: ANN401 - samples of any space
        state: Any = None,  # noqa: ANN401 - whatever it gave before
        episode_start: Any = None,  # noqa: ANN401 - NumPy's bools
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Gives a batch of actions, and what to hand in with the next."""


@dataclass(frozen=True)
class Recorded:
    """What was recorded.

    Attributes:
        file: Where it is.
        episodes: How many.
        steps: How many, in all of them.
        mean_return: Mean of the episodes' sums of rewards.
        cut: How many of the episodes had not ended when they were cut.
    """

    file: Path
    episodes: int
    steps: int
    mean_return: float
    cut: int = 0


@dataclass
class _Episode:
    name: str
    observations: list[Any]
    actions: list[Any] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False
    cut: bool = False


def record(
    make_environment: Callable[[], gymnasium.Env[Any, Any]],
    folder: Path,
    *,
    policy: Predictor | None = None,
    episodes: int = 100,
    sample: bool = False,
    random_share: float = 0.0,
    seed: int = 0,
    on_episode: Callable[[int], None] = lambda _: None,
    longest_episode: int = LONGEST_EPISODE,
    longest_seconds: float = 0.0,
    stops: Callable[[], bool] = lambda: False,
) -> Recorded:
    """Plays episodes and writes them. What is interrupted leaves what it has, also by Ctrl-C.

    Args:
        make_environment: Makes an environment. It is held to its own spaces; see `CheckedEnvironment`.
        folder: Where the file goes; made if it does not exist.
        policy: Chooses the actions; None takes random ones.
        episodes: How many.
        sample: Whether the policy draws its actions instead of taking the greedy ones.
        random_share: Share of the steps in which a random action is taken instead, from 0 to 1: what is to do better
            than its teacher has to see what else can be done.
        seed: Episode i is reset with seed + i.
        on_episode: Told how many have ended, each time one does.
        longest_episode: Steps after which an episode that has not ended is cut, and recorded as truncated; 0 for no
            limit.
        longest_seconds: Seconds after which the episodes in progress are cut, and no further one is begun; 0 for no
            limit.
        stops: Asked after each step of all environments; once it says so, it is as if the time were over.

    Raises:
        FileExistsError: If there is a dataset already.
        InvalidArgumentError: If a space is not made of Box, Discrete, MultiDiscrete and MultiBinary.
        UnsoundEnvironmentError: If an environment gives what is not in its own space, or a reward that is no number.
        ValueError: If it was ended before there was anything to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from steersman.environments.checked import CheckedEnvironment

    file = folder / FILE
    if file.exists():
        raise FileExistsError(f"expected a folder without recordings, got {folder} with {FILE} in it")
    folder.mkdir(parents=True, exist_ok=True)
    environments: list[CheckedEnvironment] = []
    for _ in range(min(episodes, _MOST_ENVIRONMENTS)):
        made = make_environment()
        if not isinstance(made, CheckedEnvironment):
            made = CheckedEnvironment(made, made.spec.id if made.spec else type(made.unwrapped).__name__)
        environments.append(made)
    unfinished = file.with_suffix(".part")
    steps, cut, returns = 0, 0, []
    limits = _Limits(longest_episode, time.monotonic() + longest_seconds if longest_seconds else math.inf, stops)
    try:
        schema = _schema(environments[0])
        with pq.ParquetWriter(unfinished, schema) as writer:
            for episode in _played(environments, policy, episodes, sample, random_share, seed, limits):
                writer.write_table(pa.Table.from_pylist(_rows(episode, environments[0]), schema))
                steps += len(episode.rewards)
                cut += episode.cut
                returns.append(sum(episode.rewards))
                on_episode(len(returns))
        if not returns:
            raise ValueError("it was ended before the first step: there is nothing to write")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
        for environment in environments:
            environment.close()  # type: ignore[no-untyped-call] # Gymnasium's signature
    return Recorded(file, len(returns), steps, float(np.mean(returns)), cut)


@dataclass(frozen=True)
class _Limits:
    """When episodes are cut.

    Attributes:
        steps: Steps of one; 0 for no limit.
        ends_at: When all are, in seconds of `time.monotonic`.
        stops: Tells that all are.
    """

    steps: int
    ends_at: float
    stops: Callable[[], bool]

    def cuts(self, episode: _Episode) -> bool:
        """Tells whether an episode that has not ended is cut."""
        return bool(self.steps) and len(episode.rewards) >= self.steps

    def ends(self) -> bool:
        """Tells whether all are."""
        return time.monotonic() >= self.ends_at or self.stops()


def _played(
    environments: Sequence[gymnasium.Env[Any, Any]],
    policy: Predictor | None,
    episodes: int,
    sample: bool,
    random_share: float,
    seed: int,
    limits: _Limits,
) -> Any:  # noqa: ANN401 - an iterator of episodes
    """Plays the episodes side by side; environment i plays episodes i, i + n, i + 2n and so on."""
    count, random = len(environments), np.random.default_rng(seed)
    session = uuid.uuid4().hex[:8]

    def begin(number: int) -> _Episode:
        observation, _ = environments[number % count].reset(seed=seed + number)
        return _Episode(f"{session}-{number}", [observation])

    for i, environment in enumerate(environments):
        environment.action_space.seed(seed + i)
    numbers = list(range(count))
    playing: list[_Episode | None] = [begin(number) for number in numbers]
    observations: list[Any] = [episode.observations[0] for episode in playing if episode]
    state, starts = None, np.ones(count, bool)
    while any(playing):
        chosen: Sequence[Any] = [None] * count
        if policy is not None:
            chosen, state = policy.predict(observations, state, starts, deterministic=not sample)
        starts = np.zeros(count, bool)
        for i, environment in enumerate(environments):
            episode = playing[i]
            if episode is None:
                continue
            is_random = policy is None or random.random() < random_share
            action = environment.action_space.sample() if is_random else _at(chosen, i)
            observations[i], reward, terminated, truncated, _ = environment.step(action)
            episode.observations.append(observations[i])
            episode.actions.append(action)
            episode.rewards.append(float(reward))
            episode.cut = not (terminated or truncated) and limits.cuts(episode)
            if terminated or truncated or episode.cut:
                episode.terminated = bool(terminated)
                yield episode
                numbers[i] += count
                playing[i] = None
                starts[i] = True
                if numbers[i] < episodes:
                    following = playing[i] = begin(numbers[i])
                    observations[i] = following.observations[0]
        if limits.ends():
            for episode in playing:
                if episode is not None and episode.rewards:
                    episode.cut = True
                    yield episode
            return


def _at(actions: Any, i: int) -> Any:  # noqa: ANN401 - of any space
    """Takes one action out of a batch, whose parts are batches where the space has parts."""
    if isinstance(actions, dict):
        return {key: _at(part, i) for key, part in actions.items()}
    if isinstance(actions, tuple):
        return tuple(_at(part, i) for part in actions)
    return actions[i]


def _schema(environment: gymnasium.Env[Any, Any]) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa

    observation, action = _type(environment.observation_space), _type(environment.action_space)
    return pa.schema(
        [
            ("eps_id", pa.string()),
            ("t", pa.int64()),
            ("obs", observation),
            ("actions", action),
            ("rewards", pa.float64()),
            ("new_obs", observation),
            ("terminateds", pa.bool_()),
            ("truncateds", pa.bool_()),
        ]
    )


def _type(space: gymnasium.Space[Any]) -> Any:  # noqa: ANN401
    import pyarrow as pa
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return pa.struct([(key, _type(part)) for key, part in space.spaces.items()])
    if isinstance(space, spaces.Tuple):
        return pa.struct([(str(i), _type(part)) for i, part in enumerate(space.spaces)])
    if not isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        raise InvalidArgumentError(
            f"expected spaces made of Box, Discrete, MultiDiscrete and MultiBinary to record, got {space}"
        )
    single = pa.from_numpy_dtype(space.dtype)
    return pa.list_(single) if space.shape else single


def _rows(episode: _Episode, environment: gymnasium.Env[Any, Any]) -> list[dict[str, Any]]:
    observations = [_plain(environment.observation_space, observation) for observation in episode.observations]
    last = len(episode.rewards) - 1
    return [
        {
            "eps_id": episode.name,
            "t": t,
            "obs": observations[t],
            "actions": _plain(environment.action_space, episode.actions[t]),
            "rewards": episode.rewards[t],
            "new_obs": observations[t + 1],
            "terminateds": t == last and episode.terminated,
            "truncateds": t == last and not episode.terminated,
        }
        for t in range(last + 1)
    ]


def _plain(space: gymnasium.Space[Any], sample: Any) -> Any:  # noqa: ANN401 - a sample of any space
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: _plain(part, sample[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return {str(i): _plain(part, sample[i]) for i, part in enumerate(space.spaces)}
    flat = np.asarray(sample, space.dtype).ravel().tolist()
    return flat if space.shape else flat[0]
