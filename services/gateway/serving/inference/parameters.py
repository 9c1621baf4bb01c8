"""Reads the parameters of a request. Those that are not known are ignored, as other servers may know them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import inference_pb2
from steersman.quoting import quoted

_MAX_SEED = 2**64 - 1
_HIGHEST_PRIORITY = 1


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters that are known.

    Attributes:
        deterministic: Whether the greedy action is taken; else one is drawn.
        seed: Seed of the draw; None to draw at random.
        sequence_id: The session; empty for none.
        sequence_start: Whether its episode begins.
        sequence_end: Whether its episode ends with this step.
        sequence_step: The number of this step in its episode, from 1; 0 if the client does not count.
        interactive: Whether somebody waits for the action.
        timeout_seconds: How long the answer is of use; 0 for no limit.
    """

    deterministic: bool = True
    seed: int | None = None
    sequence_id: str = ""
    sequence_start: bool = False
    sequence_end: bool = False
    sequence_step: int = 0
    interactive: bool = True
    timeout_seconds: float = 0.0


NO_PARAMETERS = Parameters()


def read_parameters(parameters: Mapping[str, inference_pb2.InferParameter]) -> Parameters:
    """Reads the parameters of a request.

    Raises:
        InvalidArgumentError: If a known one is of the wrong kind or out of range.
    """
    if not parameters:
        return NO_PARAMETERS
    values = {name: _value(parameter) for name, parameter in parameters.items()}
    seed = _read_int(values, "seed", None)
    if seed is not None and not 0 <= seed <= _MAX_SEED:
        raise InvalidArgumentError(f"expected parameter 'seed' between 0 and {_MAX_SEED}, got {seed}")
    timeout = _read_int(values, "timeout", 0) or 0
    if timeout < 0:
        raise InvalidArgumentError(f"expected parameter 'timeout' of at least 0 microseconds, got {timeout}")
    # Triton's numbers: 1 is the highest priority, larger ones are lower, and 0 is the default.
    priority = _read_int(values, "priority", 0) or 0
    if priority < 0:
        raise InvalidArgumentError(f"expected parameter 'priority' of at least 0, got {priority}")
    sequence_step = _read_int(values, "sequence_step", 0) or 0
    if sequence_step < 0:
        raise InvalidArgumentError(f"expected parameter 'sequence_step' of at least 1, got {sequence_step}")
    return Parameters(
        deterministic=_read_bool(values, "deterministic", default=True),
        seed=seed,
        sequence_id=_sequence_id(values),
        sequence_start=_read_bool(values, "sequence_start"),
        sequence_end=_read_bool(values, "sequence_end"),
        sequence_step=sequence_step,
        interactive=priority <= _HIGHEST_PRIORITY,
        timeout_seconds=timeout / 1e6,
    )


def _value(parameter: inference_pb2.InferParameter) -> object:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _read_bool(values: Mapping[str, object], name: str, *, default: bool = False) -> bool:
    value = values.get(name, default)
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"expected parameter {name!r} as a bool_param, got {quoted(value)}")
    return value


def _read_int(values: Mapping[str, object], name: str, default: int | None) -> int | None:
    value = values.get(name, default)
    if value is not default and (isinstance(value, bool) or not isinstance(value, int)):
        raise InvalidArgumentError(
            f"expected parameter {name!r} as an int64_param or a uint64_param, got {quoted(value)}"
        )
    return value


def _sequence_id(values: Mapping[str, object]) -> str:
    """Gives the session: 0 and the empty text both say that there is none."""
    value = values.get("sequence_id", "")
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgumentError(
            f"expected parameter 'sequence_id' as an int64_param, a uint64_param or a string_param, got {quoted(value)}"
        )
    return str(value) if value else ""
