"""Nested samples of a space as torch sees them, and their parts in the order in which they travel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    import torch

Nested = Any
"""A tensor; or a dict or tuple of such, nested as the space is. Every tensor has a leading batch axis."""

Path = tuple[str | int, ...]
"""Where a part is: keys and indices from the outside in."""


def leaves(space: gymnasium.Space[Any], path: Path = ()) -> Iterator[tuple[Path, gymnasium.Space[Any]]]:
    """Gives the parts of a space that have no parts themselves, in the order of `spaces.tensor_specs`.

    Args:
        space: Any space.
        path: Where it is.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        for key, part in space.spaces.items():
            yield from leaves(part, (*path, key))
    elif isinstance(space, gymnasium.spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from leaves(part, (*path, index))
    else:
        yield path, space


def nest(space: gymnasium.Space[Any], tensors: Iterator[torch.Tensor]) -> Nested:
    """Puts the tensors of a space's parts together as the space is nested.

    Args:
        space: The space.
        tensors: Its parts, in the order of `leaves`; those of other things may follow.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: nest(part, tensors) for key, part in space.spaces.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(nest(part, tensors) for part in space.spaces)
    return next(tensors)


def in_rllib_order(space: gymnasium.Space[Any]) -> list[int]:
    """Tells where each part is in RLlib's own order, which takes the keys of dicts sorted, whatever the space's order.

    Returns:
        For each part, in RLlib's order, its place in the order of `leaves`.
    """
    paths = [path for path, _ in leaves(space)]
    return sorted(range(len(paths)), key=lambda place: paths[place])
