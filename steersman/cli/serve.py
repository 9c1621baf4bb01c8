"""`steersman serve`: serve bundles on this machine without Ray."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import grpc
import typer

from steersman.addresses import without_proxy_on_loopback
from steersman.cli.connection import configured, connection_to
from steersman.cli.output import JsonOption, plain, print_json, progress, say
from steersman.client import open_channel
from steersman.errors import FailedPreconditionError, InternalError
from steersman.v1 import policy_pb2, policy_pb2_grpc

_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
_PREFIX = "steersman-"
_LONGEST_SOCKET_PATH = 107


def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(metavar="[NAME[:VERSION]=]FOLDER...", help="Bundles; several of one name are its versions."),
    ],
    replicas: Annotated[int, typer.Option(min=1, help="Replica processes; each serves all the bundles.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Serves bundles until Ctrl-C: a gateway and replicas as plain processes, without Ray.

    The gateway listens where the settings say (STEERSMAN_GATEWAY_ADDRESS), and clients find no difference.

    Examples:
        steersman serve var/runs/RUN/bundle

        steersman serve cartpole:3=bundles/cartpole-3 swing=bundles/swing --replicas 2
    """
    if importlib.util.find_spec("services") is None:
        raise FailedPreconditionError("expected Steersman's services to be installed: pip install 'steersman[local]'")
    # Not part of what users import, but there, as was just seen.
    from services.policy.arguments import read_arguments

    policies = set(read_arguments(bundles))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_folder_for_sockets()) as folder, _stopped_by_signals():
        replica_address = f"unix:{folder}/replicas"
        environment = os.environ | {
            "STEERSMAN_GATEWAY_REPLICA_ADDRESS": replica_address,
            "STEERSMAN_RAY_DASHBOARD_URL": "",
            **without_proxy_on_loopback(os.environ),
        }
        gateway_command = [sys.executable, "-m", "services.gateway"]
        replica_command = [sys.executable, "-m", "services.policy", "--gateway", replica_address, *bundles]
        processes = [subprocess.Popen(gateway_command, env=environment)]
        try:
            processes += [subprocess.Popen(replica_command, env=environment) for _ in range(replicas)]
            _announce(_wait_until_attached(processes, policies, replicas), as_json)
            while True:
                _check(processes)
                time.sleep(10 * _POLL_SECONDS)
        except KeyboardInterrupt:
            pass
        finally:
            _stop(processes)


def _folder_for_sockets() -> str:
    """Gives the temporary folder, or another one if paths in it are too long for Unix sockets."""
    usual = tempfile.gettempdir()
    longest = f"{usual}/{_PREFIX}12345678/replicas.64"
    return usual if len(os.fsencode(longest)) <= _LONGEST_SOCKET_PATH else "/tmp"  # noqa: S108 - a private one is made in it


def _wait_until_attached(
    processes: list[subprocess.Popen[bytes]], policies: set[str], replicas: int
) -> list[policy_pb2.Policy]:
    """Waits until every replica serves every bundle, and gives the policies."""
    deadline = time.monotonic() + _START_SECONDS
    with progress() as view, open_channel(connection_to(configured().gateway_address)) as channel:
        view.add_task("starting the gateway and its replicas", total=None)
        stub = policy_pb2_grpc.PolicyServiceStub(channel)
        while time.monotonic() < deadline:
            _check(processes)
            try:
                listed = stub.ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=1, wait_for_ready=True).policies
            except grpc.RpcError:
                continue
            if {policy.name for policy in listed if policy.replicas == replicas} == policies:
                return list(listed)
            time.sleep(_POLL_SECONDS)
    raise InternalError(f"expected the gateway and its replicas to be ready within {_START_SECONDS:g} s")


def _announce(policies: list[policy_pb2.Policy], as_json: bool) -> None:
    address = configured().gateway_address
    if as_json:
        print_json({"address": address, "policies": [plain(policy) for policy in policies]})
        return
    for policy in policies:
        versions = ", ".join(str(version.version) for version in policy.versions)
        say(f"{policy.name} (version {versions}) is served at {address}; Ctrl-C stops")


def _check(processes: list[subprocess.Popen[bytes]]) -> None:
    """Raises if a process has ended by itself."""
    for process in processes:
        if process.poll() is not None:
            raise InternalError(f"{' '.join(process.args[2:])} ended with exit code {process.returncode}")  # type: ignore[arg-type, index] # args is the list that was given


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Stops the gateway first, which still needs its replicas for what it has in hand, then the replicas."""
    for process in processes:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Makes SIGTERM do what Ctrl-C does, and SIGINT too where a shell has started this in the background."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
