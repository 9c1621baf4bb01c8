"""Runs the evaluator: `python -m services.evaluator`."""

from __future__ import annotations

import asyncio
import functools

from services.common.logs import configure_logging
from services.common.server import Service, create_server, serve_until_stopped
from services.evaluator.service import EvaluatorService
from steersman.settings import settings
from steersman.v1 import evaluator_pb2_grpc


async def run() -> None:
    """Serves until the process is told to stop.

    Raises:
        OSError: If the address is in use.
    """
    servicer = EvaluatorService(settings().gateway_address)
    register = functools.partial(evaluator_pb2_grpc.add_EvaluatorServiceServicer_to_server, servicer)
    server = create_server(
        settings(), settings().evaluator_address, [Service("steersman.v1.EvaluatorService", register)]
    )
    await serve_until_stopped(server)


def main() -> None:
    """Runs the evaluator with this process's settings."""
    configure_logging("evaluator", settings().log_level)
    asyncio.run(run())


if __name__ == "__main__":
    main()
