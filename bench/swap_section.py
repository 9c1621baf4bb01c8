"""Section `swap`: what clients notice while versions are swapped under them, on a real Ray Serve."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.loads import HALF_PEAK
from bench.measurement import generate
from bench.models import CARTPOLE, write_cartpole
from bench.plan import Plan
from bench.results import Row, Samples
from bench.targets import Target
from deploy import stack
from deploy.own_settings import own_settings
from steersman.client import ConnectionOptions, open_channel
from steersman.errors import UnavailableError
from steersman.v1 import deployment_pb2, deployment_pb2_grpc

SECTION = "swap"
LOAD = "rate-500"
REQUESTS_PER_SECOND = 500.0
SWAP_SECONDS = 10.0
_WINDOW_SECONDS = 2 * SWAP_SECONDS
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.1

TARGETS = (
    Target(LOAD, "failed_requests", None, 0.0, at_least=False, ours="swapping"),
    Target(LOAD, "p99_ms", "steady", 2.0, at_least=False, ours="swapping"),
)

NOTES = (
    (
        f"rate-500 is {REQUESTS_PER_SECOND:.0f} unary requests per second through one gateway process to one replica "
        "on Ray Serve; latency counts from when a request was due."
    ),
    (
        f"While swapping, a version that nobody has loaded before is deployed every {SWAP_SECONDS:.0f} s; each is "
        "tried in a process of its own, loaded, warmed and switched to."
    ),
)


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section.

    Args:
        plan: What to measure; only its turns count.
        tell: Told what happens.
    """
    samples = Samples(SECTION)
    tell("starting a stack")
    with _serving() as serving:
        for turn in range(1, plan.turns + 1):
            tell(f"turn {turn} of {plan.turns}: steady")
            _measure(serving, "steady", samples)
            tell(f"turn {turn} of {plan.turns}: swapping")
            with serving.swapping():
                _measure(serving, "swapping", samples)
            samples.add(LOAD, "swapping", "swaps", serving.swaps)
            serving.swaps = 0
    return samples.rows()


class _Serving:
    """A policy that is served, and swapped."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.swaps = 0
        self._folder = folder
        self._version = 0

    def deploy(self) -> None:
        """Deploys a version that there has never been, and waits until it is what answers.

        Raises:
            UnavailableError: If that takes too long.
        """
        self._version += 1
        bundle = write_cartpole(self._folder / str(self._version), seed=self._version)
        with open_channel(ConnectionOptions((self.address,))) as channel:
            stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            request = deployment_pb2.DeployRequest(
                policy=CARTPOLE, version=self._version, bundle_uri=str(bundle.folder)
            )
            stub.Deploy(request, timeout=30)
            deadline = time.monotonic() + _READY_SECONDS
            while not self._is_ready(stub):
                if time.monotonic() > deadline:
                    raise UnavailableError(f"expected version {self._version} to be served within {_READY_SECONDS:g} s")
                time.sleep(_POLL_SECONDS)
        self.swaps += 1

    @contextlib.contextmanager
    def swapping(self) -> Iterator[None]:
        """Deploys a new version every few seconds until the block ends."""
        stopping = threading.Event()

        def swap() -> None:
            due = time.monotonic() + SWAP_SECONDS / 2
            while not stopping.wait(max(0.0, due - time.monotonic())):
                self.deploy()
                due += SWAP_SECONDS

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def _is_ready(self, stub: deployment_pb2_grpc.DeploymentServiceStub) -> bool:
        response = stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=30)
        (deployment,) = response.deployments
        return (
            deployment.state == deployment_pb2.DEPLOYMENT_STATE_READY
            and deployment.version == self._version
            and deployment.replicas_ready > 0
        )


@contextlib.contextmanager
def _serving() -> Iterator[_Serving]:
    # Unix sockets need short paths.
    folder = Path(tempfile.mkdtemp(prefix="sm-", dir="/tmp"))
    settings = own_settings(folder / "v")
    try:
        stack.start(settings)
        serving = _Serving(settings.gateway_address, folder)
        serving.deploy()
        serving.swaps = 0
        yield serving
    finally:
        stack.stop(settings)
        shutil.rmtree(folder, ignore_errors=True)


def _measure(serving: _Serving, system: str, samples: Samples) -> None:
    measured = generate(serving.address, HALF_PEAK, _WINDOW_SECONDS, REQUESTS_PER_SECOND)
    samples.add(LOAD, system, "actions_per_s", measured["requests"] / measured["seconds"])
    samples.add(LOAD, system, "failed_requests", measured["errors"])
    p50, p99 = measured["latencies_ms"]
    samples.add(LOAD, system, "p50_ms", p50)
    samples.add(LOAD, system, "p99_ms", p99)
