"""The loads: who asks, how many at once, for what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.models import CARTPOLE, IMAGE
from steersman import spaces, tensors
from steersman.v1 import policy_pb2


@dataclass(frozen=True)
class Load:
    """One load.

    Attributes:
        name: As in the results.
        kind: "unary", "stream" or, at a fixed rate instead of as fast as it goes, "rate".
        concurrency: Requests in flight; for "rate" at most.
        policy: Which policy.
        observations: Observations in a request; 0 for one without a batch axis.
        streams: How many streams share the requests in flight.
    """

    name: str
    kind: str
    concurrency: int
    policy: str = CARTPOLE
    observations: int = 0
    streams: int = 1

    def request(self) -> policy_pb2.ActRequest:
        """Makes the request that is sent over and over."""
        shape, dtype = ((84, 84, 4), np.uint8) if self.policy == IMAGE else ((4,), np.float32)
        if self.observations:
            shape = (self.observations, *shape)
        array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        return policy_pb2.ActRequest(policy=self.policy, observation={spaces.OBSERVATION: tensors.encode(array)})


SERVE_LOADS = (
    Load("unary-1", "unary", 1),
    Load("unary-32", "unary", 32),
    Load("unary-128", "unary", 128),
    # Not one stream: a server that answers a stream's messages one after the other, as the floor does, would mostly
    # wait for the next one (3,300 a second, against 9,300 over four streams and 11,700 over 32), and be easily beaten.
    Load("stream-32", "stream", 32, streams=4),
    Load("vector-64", "unary", 32, observations=64),
    Load("image-uint8", "unary", 32, policy=IMAGE),
)
OIP_LOADS = (
    *SERVE_LOADS[:3],
    Load("stream-1", "stream", 1),
    SERVE_LOADS[3],
    Load("stream-128", "stream", 128, streams=4),
)
TRITON_LOADS = tuple(load for load in SERVE_LOADS if load.name in ("unary-1", "unary-32", "stream-32", "vector-64"))
HALF_PEAK = Load("half-peak", "rate", 256)
LOADS = {load.name: load for load in (*SERVE_LOADS, *OIP_LOADS, HALF_PEAK)}
