"""Runs the gateway: `python -m services.gateway`, with as many processes as the settings say."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys

import uvloop

from services.common.logs import configure_logging
from services.common.server import serve_until_stopped
from services.gateway import workers
from services.gateway.gateway import Gateway
from steersman.settings import settings


async def run(worker: int) -> None:
    """Serves until the process is told to stop.

    Args:
        worker: Which of the processes on the public port this is, from 0.

    Raises:
        OSError: If an address is in use.
    """
    gateway = Gateway(settings(), worker)
    # Modules and all else that lives as long as the process need no more collecting. To walk through them every few
    # thousand requests would take 30 milliseconds each time, in which nobody is answered.
    gc.collect()
    gc.freeze()
    running = asyncio.create_task(gateway.run())
    await serve_until_stopped(*gateway.servers)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def main() -> None:
    """Runs the gateway, or one of its processes, with this process's settings."""
    worker = os.environ.get(workers.WORKER_VARIABLE)
    name = "gateway" if worker is None else f"gateway-{worker}"
    configure_logging(name, settings().log_level)
    if worker is None and settings().gateway_workers > 1:
        sys.exit(workers.supervise(settings().gateway_workers))
    try:
        uvloop.run(run(int(worker or 0)))
    except OSError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
