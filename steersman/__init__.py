"""Steersman's client SDK: ask a served policy for actions, over gRPC.

Example:
    >>> from steersman import PolicyClient
    >>> with PolicyClient("cartpole") as client:
    ...     action = client.act(observation)
"""

from steersman._client.messages import Answer, Ask, PolicyInfo
from steersman.client import PolicyClient
from steersman.errors import SteersmanError

__all__ = ["Answer", "Ask", "PolicyClient", "PolicyInfo", "SteersmanError"]
