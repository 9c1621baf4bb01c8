"""Steersman's client SDK: ask a served policy for actions, over gRPC.

Example:
    >>> from steersman import PolicyClient
    >>> with PolicyClient("cartpole") as client:
    ...     action = client.act(observation)
"""

from steersman._client.messages import ActOptions, Answer, PolicyInfo
from steersman.client import PolicyClient
from steersman.errors import SteersmanError

__all__ = ["ActOptions", "Answer", "PolicyClient", "PolicyInfo", "SteersmanError"]
