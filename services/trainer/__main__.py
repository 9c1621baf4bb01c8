"""The trainer's process: `python -m services.trainer`."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os

from services.common.logs import configure_logging
from services.common.server import Service, create_server, serve_until_stopped
from steersman.settings import Settings, settings
from steersman.v1 import trainer_pb2

_log = logging.getLogger("services.trainer")

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A caller waits for the answer: tell them soon that MLflow is away. Jobs keep MLflow's patient defaults.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Environment variables of this process, where the caller has set no others."""


async def serve(configuration: Settings) -> None:
    """Serves until the process is told to stop."""
    from services.trainer.api.service import TrainerServicer
    from services.trainer.cluster.ray_jobs import RayJobs
    from services.trainer.records.tracking import Tracking

    async with RayJobs(configuration.ray_dashboard_url, configuration.ray_token_file) as ray_jobs:
        servicer = TrainerServicer(configuration, Tracking(configuration.mlflow_url), ray_jobs)
        service = Service(trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"], servicer)
        server = create_server(configuration, configuration.trainer_address, [service])
        warming = asyncio.create_task(asyncio.to_thread(warm_up))
        await serve_until_stopped(server)
        await warming


def warm_up() -> None:
    """Imports RLlib, so that the first StartRun need not; if that fails, it will say why."""
    try:
        importlib.import_module("services.trainer.algorithms")
    except Exception:  # noqa: BLE001 - whatever it is, all else works without
        _log.exception("RLlib cannot be loaded")
    else:
        _log.info("RLlib is loaded")


def main() -> None:
    """Runs the trainer."""
    # Before MLflow and Ray are imported, which read these once.
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    configuration = settings()
    configure_logging("trainer", configuration.log_level)
    asyncio.run(serve(configuration))


if __name__ == "__main__":
    main()
