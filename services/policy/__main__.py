"""Runs a replica as a plain process: `python -m services.policy --gateway ADDRESS BUNDLE [BUNDLE ...]`.

`steersman serve` starts these; under Ray Serve, `deployment` wraps the same core.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
from pathlib import Path

import uvloop

from services.common.bundle import read_bundle
from services.common.logs import configure_logging
from services.common.server import wait_for_stop_signal
from services.policy.arguments import Folders, read_arguments
from services.policy.replica import Replica
from services.policy.runtime import PolicyRuntime
from steersman.errors import SteersmanError
from steersman.settings import Settings, settings


async def run(folders: Folders, gateways: list[str], configured: Settings) -> None:
    """Serves until the process is told to stop: one replica for each policy.

    Args:
        folders: The bundles.
        gateways: Internal addresses of the gateways.
        configured: For limits.

    Raises:
        InvalidArgumentError: If a bundle cannot be loaded.
    """
    replicas = []
    for name, versions in folders.items():
        replica = Replica(
            name,
            f"{name}-{os.getpid()}",
            gateways,
            configured.max_batch_size,
            configured.max_message_bytes,
            configured.max_queue_delay_microseconds,
        )
        await replica.load({version: functools.partial(_load, folder) for version, folder in versions.items()})
        replicas.append(replica)
    for replica in replicas:
        replica.start()
    await wait_for_stop_signal()
    await asyncio.gather(*(replica.leave() for replica in replicas))


def _load(folder: Path) -> PolicyRuntime:
    return PolicyRuntime(read_bundle(folder))


def main() -> None:
    """Runs the replica."""
    parser = argparse.ArgumentParser(prog="python -m services.policy", description=__doc__)
    parser.add_argument("--gateway", action="append", required=True, help="Internal address; may be repeated.")
    parser.add_argument("bundles", nargs="+", metavar="[NAME[:VERSION]=]FOLDER")
    arguments = parser.parse_args()
    configure_logging("policy", settings().log_level)
    try:
        uvloop.run(run(read_arguments(arguments.bundles), arguments.gateway, settings()))
    except SteersmanError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main()
