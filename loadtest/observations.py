"""What users ask about: environments that they step with the answers, or observations that were recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt

from steersman.errors import InvalidArgumentError


class Source(Protocol):
    """Where one user's observations come from."""

    def observe(self) -> Any:  # noqa: ANN401 - a sample of any space, or a batch of them
        """Gives the observation that is to be answered."""

    def act(self, action: Any) -> bool:  # noqa: ANN401
        """Takes the answer; tells whether an episode has ended, so that the next observation begins one."""

    def close(self) -> None:
        """Gives up what it holds."""


class Episodes:
    """Steps an environment, one episode after the other.

    Args:
        environment: Gymnasium's id.
        seed: Seed of the first episode.
    """

    def __init__(self, environment: str, seed: int) -> None:
        self._environment = gymnasium.make(environment)
        self._observation, _ = self._environment.reset(seed=seed)

    def observe(self) -> Any:  # noqa: ANN401
        """Gives the observation of the step that is due."""
        return self._observation

    def act(self, action: Any) -> bool:  # noqa: ANN401
        """Steps."""
        self._observation, _, terminated, truncated, _ = self._environment.step(action)
        if terminated or truncated:
            self._observation, _ = self._environment.reset()
        return bool(terminated or truncated)

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()  # type: ignore[no-untyped-call] # Gymnasium's signature


class VectorEpisodes:
    """Steps many environments at once, whose observations go into one message.

    Args:
        environment: Gymnasium's id.
        seed: Seed of the first episodes.
        size: How many.
    """

    def __init__(self, environment: str, seed: int, size: int) -> None:
        self._environments: gymnasium.vector.VectorEnv[Any, Any, Any] = gymnasium.make_vec(environment, num_envs=size)
        self._observations, _ = self._environments.reset(seed=seed)

    def observe(self) -> Any:  # noqa: ANN401
        """Gives the observations of the step that is due."""
        return self._observations

    def act(self, action: Any) -> bool:  # noqa: ANN401
        """Steps; whichever episodes have ended begin anew by themselves."""
        self._observations, *_ = self._environments.step(action)
        return False

    def close(self) -> None:
        """Closes the environments."""
        self._environments.close()


class Recorded:
    """Gives recorded observations over and over, whatever the answers are.

    Args:
        observations: One in each row.
        seed: Decides where to begin.
        size: How many go into a message; 0 for one without a batch axis.
    """

    def __init__(self, observations: npt.NDArray[Any], seed: int, size: int) -> None:
        self._observations = observations
        self._next = seed % len(observations)
        self._size = size

    def observe(self) -> Any:  # noqa: ANN401
        """Gives the observations that are due."""
        rows = np.arange(self._next, self._next + max(1, self._size)) % len(self._observations)
        return self._observations[rows] if self._size else self._observations[rows[0]]

    def act(self, action: Any) -> bool:  # noqa: ANN401
        """Goes on to the next ones."""
        self._next = (self._next + max(1, self._size)) % len(self._observations)
        return False

    def close(self) -> None:
        """Has nothing to close."""


def make_source(environment: str, recording: Path | None, size: int, seed: int) -> Source:
    """Makes a user's source.

    Args:
        environment: Gymnasium's id.
        recording: Recorded observations to be used instead; see `read_recording`.
        size: Observations in a message; 0 for one without a batch axis.
        seed: The user's.

    Raises:
        InvalidArgumentError: If there is no such environment or recording.
    """
    if recording is not None:
        return Recorded(read_recording(recording), seed, size)
    make: Callable[[], Source] = (
        (lambda: VectorEpisodes(environment, seed, size)) if size else (lambda: Episodes(environment, seed))
    )
    try:
        return make()
    except gymnasium.error.Error as error:
        raise InvalidArgumentError(
            f"expected an environment that Gymnasium has, got {environment!r}: {error}"
        ) from None


def read_recording(path: Path) -> npt.NDArray[Any]:
    """Reads observations: the rows of a .npy file, or the column `obs` of what `steersman record` writes.

    Raises:
        InvalidArgumentError: If there are none.
    """
    try:
        if path.suffix == ".npy":
            found: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        else:
            from pyarrow import parquet

            column = parquet.read_table(path, columns=["obs"]).column("obs")
            found = np.asarray(column.to_pylist(), np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidArgumentError(f"expected recorded observations in {path}: {error}") from None
    if not len(found):
        raise InvalidArgumentError(f"expected recorded observations in {path}, got none")
    return found
