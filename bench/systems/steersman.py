"""Steersman: a gateway and one replica as plain processes, attached over a Unix socket."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from bench.loads import Load
from bench.models import Models
from bench.systems.system import System, end, free_address, start_module, wait_until_listening
from steersman.client import ConnectionOptions, open_channel
from steersman.v1 import policy_pb2, policy_pb2_grpc

_START_SECONDS = 30.0


class Steersman(System):
    """The gateway and the replica.

    Attributes:
        ready_seconds: From the start of the gateway's process until it answered.
    """

    name = "steersman"
    ready_seconds = 0.0

    def __init__(self) -> None:
        self._gateway: Any = None
        self._replica: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def start(self, models: Models) -> None:
        """Starts both and waits until the replica is attached."""
        self._address = free_address()
        self._folder = tempfile.TemporaryDirectory(prefix="steersman-bench-")
        folder = self._folder.name
        replica_address = f"unix:{folder}/replicas"
        began = time.monotonic()
        self._gateway = start_module(
            "services.gateway",
            STEERSMAN_GATEWAY_ADDRESS=self._address,
            STEERSMAN_GATEWAY_REPLICA_ADDRESS=replica_address,
            STEERSMAN_RAY_DASHBOARD_URL="",
            STEERSMAN_VAR_DIR=folder,
        )
        wait_until_listening(self._address, self._gateway)
        self.ready_seconds = time.monotonic() - began
        bundles = [f"{policy}={bundle.folder}" for policy, bundle in models.by_policy.items()]
        self._replica = start_module("services.policy", "--gateway", replica_address, *bundles)
        with open_channel(ConnectionOptions((self._address,))) as channel:
            stub = policy_pb2_grpc.PolicyServiceStub(channel)
            while len(stub.ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=5).policies) < len(bundles):
                if self._replica.poll() is not None or time.monotonic() > began + _START_SECONDS:
                    raise RuntimeError(f"expected a replica of {', '.join(models.by_policy)} to attach; it did not")
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops both."""
        end(self._gateway)
        end(self._replica)
        if self._folder is not None:
            self._folder.cleanup()

    def target(self, load: Load) -> str:
        """Takes every load."""
        return self._address

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Is two processes."""
        return {"gateway": [psutil.Process(self._gateway.pid)], "replica": [psutil.Process(self._replica.pid)]}

    def batches(self, load: Load) -> tuple[int, int] | None:
        """Asks the gateway."""
        with open_channel(ConnectionOptions((self._address,))) as channel:
            stub = policy_pb2_grpc.PolicyServiceStub(channel)
            policy = stub.GetPolicy(policy_pb2.GetPolicyRequest(policy=load.policy), timeout=5).policy
        return policy.statistics.batches, policy.statistics.batched_observations
