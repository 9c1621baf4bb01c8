"""The sync client. `steersman.aio` has the same names, to be awaited."""

from steersman._client.channels import open_channel
from steersman._client.messages import ActOptions, Answer, PolicyInfo, State
from steersman._client.options import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, ConnectionOptions, RetryPolicy
from steersman._client.sync_client import PolicyClient
from steersman._client.sync_stream import ActionStream

# What it was called in the first versions.
Ask = ActOptions

__all__ = [
    "DEFAULT_ADDRESS",
    "DEFAULT_TIMEOUT_SECONDS",
    "ActOptions",
    "ActionStream",
    "Answer",
    "Ask",
    "ConnectionOptions",
    "PolicyClient",
    "PolicyInfo",
    "RetryPolicy",
    "State",
    "open_channel",
]
