"""The async client: the same names as in `steersman.client`, to be awaited."""

from steersman._client.aio_client import PolicyClient
from steersman._client.aio_stream import ActionStream
from steersman._client.channels import open_aio_channel as open_channel
from steersman._client.messages import ActOptions, Answer, PolicyInfo, State
from steersman._client.options import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, ConnectionOptions, RetryPolicy

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
