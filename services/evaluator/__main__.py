"""Runs the evaluator: `python -m services.evaluator`."""

from __future__ import annotations

import asyncio
import os

from services.common.logs import configure_logging
from services.common.server import Service, create_server, serve_until_stopped
from services.evaluator.api.requests import Defaults
from services.evaluator.api.service import EvaluatorService
from services.evaluator.judge.archive import Archive
from steersman.settings import settings
from steersman.v1 import evaluator_pb2

_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Environment variables of this process, where the caller has set no others."""


async def run() -> None:
    """Serves until the process is told to stop.

    Raises:
        OSError: If the address is in use.
    """
    chosen = settings()
    defaults = Defaults(
        chosen.gateway_address,
        chosen.environment_step_seconds,
        tuple(chosen.evaluator_modules),
        chosen.var_dir / "evaluator_code",
        chosen.var_dir / "code",
        chosen.ray_address,
    )
    archive = Archive(chosen.var_dir / "evaluations", chosen.mlflow_url)
    servicer = EvaluatorService(defaults, archive)
    service = Service(evaluator_pb2.DESCRIPTOR.services_by_name["EvaluatorService"], servicer)
    server = create_server(chosen, chosen.evaluator_address, [service])
    await serve_until_stopped(server)
    await archive.until_kept()


def main() -> None:
    """Runs the evaluator with this process's settings."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    configure_logging("evaluator", settings().log_level)
    asyncio.run(run())


if __name__ == "__main__":
    main()
