"""What an exported policy remembers of an episode: state tensors that go in with one step and come out for the next."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

STATE = "state"
"""All state tensors are named behind this."""

PREVIOUS_ACTIONS = f"{STATE}/previous_actions"
"""Wire name of the state that holds the last actions; see `PolicySpec.state_tensors`."""

FRAMES = f"{STATE}/frames"
"""Wire name of the state that holds the frames before the present one, latest last."""

PREVIOUS_REWARDS = f"{STATE}/previous_rewards"
"""Wire name of the state that holds the rewards before the last one, latest last."""

PREVIOUS_REWARD = "previous_reward"
"""Wire name of the last reward, which the client gives along with the observation."""


@dataclass(frozen=True)
class StateTensor:
    """One state tensor.

    Attributes:
        name: Its wire name.
        dtype: Its dtype.
        shape: Its shape, for one episode.
    """

    name: str
    dtype: npt.DTypeLike
    shape: tuple[int, ...]

    def zeros(self, batch_size: int) -> torch.Tensor:
        """Gives what episodes begin with."""
        return torch.as_tensor(np.zeros((batch_size, *self.shape), self.dtype))


@dataclass
class Memory:
    """The state of a batch of episodes, in one step.

    Attributes:
        before: The state tensors by name, each with a leading batch axis.
        previous_reward: The reward of the step before; None for a policy that does not take it.
        after: The state tensors for the next step; filled while the step is computed.
    """

    before: dict[str, torch.Tensor]
    previous_reward: torch.Tensor | None = None
    after: dict[str, torch.Tensor] = field(default_factory=dict)
