"""Channel options and the one retry policy of the client SDK."""

from __future__ import annotations

import json

DEFAULT_ADDRESS = "127.0.0.1:50051"
"""Where a local gateway listens."""

DEFAULT_TIMEOUT_SECONDS = 10.0
"""Deadline of a call, retries included, unless the caller names another."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest message that the client takes or gives, as on the server's side."""

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": "steersman.v1.PolicyService"}],
            # Inference is idempotent, so a call that found nobody to answer may be sent again. gRPC jitters the
            # backoff, stays inside the deadline and respects the server's grpc-retry-pushback-ms.
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # When more than about a third of the calls fail, retries stop until it gets better.
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.5},
}


def channel_options() -> list[tuple[str, str | int]]:
    """Gives the options of every channel that a client opens."""
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # A peer that vanished without a word is noticed within half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
