"""Steersman's client SDK: ask a served policy for actions, over gRPC.

Example:
    >>> from steersman import PolicyClient
    >>> with PolicyClient("cartpole") as client:
    ...     action = client.act(observation)
"""

import os

# gRPC's own handlers of forks, which are half on by default, stop the parent's calls for a while and now and then hang
# the child. What clients do in a child needs none of them (`steersman._client.forks`). Read when gRPC is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from steersman.client import ActOptions, Answer, ConnectionOptions, PolicyClient, PolicyInfo
from steersman.errors import SteersmanError

# What it was called in the first versions.
Ask = ActOptions

__all__ = ["ActOptions", "Answer", "Ask", "ConnectionOptions", "PolicyClient", "PolicyInfo", "SteersmanError"]
