"""The recurrent state of an RLlib module as named tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from services.trainer.export.memory import STATE, Memory, StateTensor
from services.trainer.export.nesting import Nested
from steersman.errors import FailedPreconditionError


def module_states(module: Any) -> list[StateTensor]:  # noqa: ANN401 - RLlib has no types
    """Lists a module's recurrent state; nothing for one that has none.

    Raises:
        FailedPreconditionError: If episodes do not begin with zeros.
    """
    if not module.is_stateful():
        return []
    states = []
    for name, value in _named(module.get_initial_state()):
        initial = torch.as_tensor(value)
        if torch.any(initial != 0):
            raise FailedPreconditionError(
                f"cannot export {type(module).__name__}: expected an initial state of zeros, but {name} has others"
            )
        states.append(StateTensor(name, initial.numpy().dtype, tuple(initial.shape)))
    return states


def read_state(module: Any, memory: Memory) -> Nested:  # noqa: ANN401
    """Puts the module's state tensors together as its `forward` takes them."""

    def nested(initial: Any, name: str) -> Nested:  # noqa: ANN401
        if isinstance(initial, dict):
            return {key: nested(part, f"{name}/{key}") for key, part in initial.items()}
        return memory.before[name]

    return nested(module.get_initial_state(), STATE)


def write_state(state: Nested, memory: Memory) -> None:
    """Takes the module's next state apart."""
    memory.after.update(_named(state))


def _named(state: Nested, name: str = STATE) -> Iterator[tuple[str, Any]]:
    if isinstance(state, dict):
        for key, part in state.items():
            yield from _named(part, f"{name}/{key}")
    else:
        yield name, state
