"""Environments that keep to their own word, wherever they are played: in training, evaluation and recordings.

Gymnasium lets environments be lax: an observation of another dtype than the space says, a reward that is an array of
one number, one buffer for all observations. Each library around it takes that differently, so the same environment
trained here, failed there and was recorded wrongly somewhere else. Here all of it is brought to what the spaces say,
once; what cannot be is an error that names the part. Needs Gymnasium.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from steersman.errors import FailedPreconditionError

_Read = Callable[[Any], Any]
_SHOWN = 120
_STEP_VALUES = 5
_WHOLE = "biu"
_NUMBERS = "biuf"


class UnsoundEnvironmentError(FailedPreconditionError):
    """An environment gave what its spaces, or Gymnasium's rules, do not allow. The message names the part."""


class CheckedEnvironment(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Brings what an environment gives to what its spaces say.

    Observations are copies, in the space's dtype and shape, and never NaN; numbers of a Box may lie beyond its bounds.
    Rewards are finite Python floats, flags are Python bools. Actions arrive in the dtype of their space.

    Args:
        env: The environment, wrappers included.
        name: What errors call it.

    Raises:
        UnsoundEnvironmentError: From `reset` and `step`, where this cannot be done without changing a value.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        super().__init__(env)
        self._name = name
        self._read = _reader(env.observation_space, "")
        self._takes_other_floats = any(
            isinstance(part, spaces.Box) and part.dtype != np.float32 for part in _parts(env.action_space)
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        given = self.env.reset(seed=seed, options=options)
        if not isinstance(given, tuple) or len(given) != 2:
            raise self._unsound("reset", "an observation and an info", _shown(given))
        return self._observation(given[0], "reset"), given[1]

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:  # noqa: ANN401 - of its own space
        """Takes a step."""
        if self._takes_other_floats:
            action = in_own_dtype(self.env.action_space, action)
        given = self.env.step(action)
        if not isinstance(given, tuple) or len(given) != _STEP_VALUES:
            raise self._unsound("step", "an observation, a reward, terminated, truncated and an info", _shown(given))
        observation, reward, terminated, truncated, info = given
        # Most environments give these as they are to be, and this is called in every step.
        if type(reward) is not float or not math.isfinite(reward):
            reward = one_number(reward, self._name)
        if type(terminated) is not bool or type(truncated) is not bool:
            terminated, truncated = self._flag(terminated, "terminated"), self._flag(truncated, "truncated")
        return self._observation(observation, "step"), reward, terminated, truncated, info

    def _observation(self, observation: Any, method: str) -> Any:  # noqa: ANN401 - of the environment's own space
        try:
            return self._read(observation)
        except _UnfitError as error:
            raise self._unsound(method, error.expected, error.got) from None

    def _flag(self, value: object, which: str) -> bool:
        if isinstance(value, bool):
            return value
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in _WHOLE:
            raise self._unsound("step", f"{which} as True or False", _shown(value))
        return bool(array.reshape(())[()])

    def _unsound(self, method: str, expected: str, got: str) -> UnsoundEnvironmentError:
        return UnsoundEnvironmentError(f"expected {expected} from {method} of {self._name}, got {got}")


def one_number(reward: Any, name: str) -> float:  # noqa: ANN401 - whatever an environment gives
    """Gives a reward as a float.

    Args:
        reward: A number of Python's or NumPy's, or an array of one.
        name: Of the environment, for the error.

    Raises:
        UnsoundEnvironmentError: If it is anything else, or not finite.
    """
    if type(reward) is float:
        number = reward
    else:
        array = np.asarray(reward)
        if array.size != 1 or array.dtype.kind not in _NUMBERS:
            raise UnsoundEnvironmentError(
                f"expected a reward of one number from step of {name}, got {_shown(reward)}; add up or choose in the "
                "environment, or in a wrapper around it"
            )
        number = float(array.reshape(())[()])
    if not math.isfinite(number):
        raise UnsoundEnvironmentError(f"expected a finite reward from step of {name}, got {number}")
    return number


def in_own_dtype(space: gymnasium.Space[Any], action: Any) -> Any:  # noqa: ANN401 - of any space
    """Gives an action with the numbers of its Boxes in the dtypes of the space."""
    if isinstance(space, spaces.Dict):
        return {key: in_own_dtype(part, action[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(in_own_dtype(part, value) for part, value in zip(space.spaces, action, strict=True))
    return np.asarray(action, space.dtype) if isinstance(space, spaces.Box) else action


class _UnfitError(Exception):
    """A value is not what the space says.

    Attributes:
        expected: What was, in words.
        got: What came, in words.
    """

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected, self.got = expected, got


def _reader(space: gymnasium.Space[Any], path: str) -> _Read:
    """Makes what reads samples of a space: once for each environment, since it is called in every step."""
    if isinstance(space, spaces.Dict):
        return _dict_reader({key: _reader(part, f"{path}/{key}") for key, part in space.spaces.items()}, path)
    if isinstance(space, spaces.Tuple):
        return _tuple_reader([_reader(part, f"{path}/{i}") for i, part in enumerate(space.spaces)], path)
    if isinstance(space, spaces.Box):
        return _box_reader(space, path)
    if isinstance(space, spaces.Discrete):
        return _discrete_reader(space, path)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return _integers_reader(space, path)
    # Text, graphs and sequences are refused where policies are made for them.
    return lambda value: value


def _dict_reader(readers: Mapping[str, _Read], path: str) -> _Read:
    def read(value: Any) -> dict[str, Any]:  # noqa: ANN401
        if not isinstance(value, Mapping) or value.keys() != readers.keys():
            got = f"the keys {sorted(map(str, value))}" if isinstance(value, Mapping) else _shown(value)
            raise _UnfitError(f"{_named(path)} with the keys {sorted(readers)}", got)
        return {key: reader(value[key]) for key, reader in readers.items()}

    return read


def _tuple_reader(readers: list[_Read], path: str) -> _Read:
    def read(value: Any) -> tuple[Any, ...]:  # noqa: ANN401
        if not isinstance(value, list | tuple) or len(value) != len(readers):
            raise _UnfitError(f"{_named(path)} of {len(readers)} parts", _shown(value))
        return tuple(reader(part) for reader, part in zip(readers, value, strict=True))

    return read


def _box_reader(space: spaces.Box, path: str) -> _Read:
    dtype, shape = np.dtype(space.dtype), space.shape
    can_be_nan = dtype.kind == "f" and math.prod(shape) > 0

    def read(value: Any) -> npt.NDArray[Any]:  # noqa: ANN401
        # A copy in any case: some environments give the same array each time.
        if type(value) is np.ndarray and value.dtype == dtype and value.shape == shape:
            array = value.copy()
        else:
            array = _converted(value, dtype, shape, path)
        # Only NaN is not itself; told in half the time that np.isnan takes for a few numbers.
        if can_be_nan and np.count_nonzero(array != array):
            raise _UnfitError(f"{_named(path)} without NaN", _shown(array.tolist()))
        return array

    return read


def _discrete_reader(space: spaces.Discrete[Any], path: str) -> _Read:
    low, high = int(space.start), int(space.start) + int(space.n)
    make = np.dtype(space.dtype or np.int64).type

    def read(value: Any) -> Any:  # noqa: ANN401
        array = np.asarray(value)
        if (
            array.size != 1
            or array.dtype.kind not in _WHOLE
            or not low <= (number := int(array.reshape(())[()])) < high
        ):
            raise _UnfitError(f"{_named(path)} in {space}", _shown(value))
        return make(number)

    return read


def _integers_reader(space: spaces.MultiDiscrete | spaces.MultiBinary, path: str) -> _Read:
    dtype, shape = np.dtype(space.dtype), space.shape

    def read(value: Any) -> npt.NDArray[Any]:  # noqa: ANN401
        array = _converted(value, dtype, shape, path)
        if not space.contains(array):
            raise _UnfitError(f"{_named(path)} in {space}", _shown(array.tolist()))
        return array

    return read


def _converted(
    value: Any,  # noqa: ANN401
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    path: str,
) -> npt.NDArray[Any]:
    """Makes a new array of a dtype, unless that would change a number by more than rounding."""
    wanted = f"{_named(path)} of {dtype.name} with shape {list(shape)}"
    try:
        given = np.asarray(value)
    except ValueError:
        raise _UnfitError(wanted, "sequences of unequal lengths") from None
    if given.dtype.kind not in _NUMBERS or given.shape != shape:
        raise _UnfitError(wanted, _shown(value))
    with np.errstate(invalid="ignore", over="ignore"):
        array = given.astype(dtype)
    is_whole = dtype.kind in _WHOLE
    if is_whole and (given.dtype.kind not in _WHOLE or not np.array_equal(array, given)):
        raise _UnfitError(wanted, _shown(given))
    return array


def _parts(space: gymnasium.Space[Any]) -> list[gymnasium.Space[Any]]:
    if isinstance(space, spaces.Dict):
        return [leaf for part in space.spaces.values() for leaf in _parts(part)]
    if isinstance(space, spaces.Tuple):
        return [leaf for part in space.spaces for leaf in _parts(part)]
    return [space]


def _named(path: str) -> str:
    return f"observations{path}" if not path else f"the part {path[1:]} of observations"


def _shown(value: object) -> str:
    """Describes what came instead: its type, dtype and shape, and as much of it as fits into a sentence."""
    if isinstance(value, np.ndarray):
        kind = f"an array of {value.dtype.name} with shape {list(value.shape)}"
        return f"{kind}: {_cut(value.tolist())}" if value.size <= 8 else kind
    return "None" if value is None else f"{_cut(value)} ({type(value).__name__})"


def _cut(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
