"""Logging, the same in every service: one line an event, to standard error, in UTC."""

from __future__ import annotations

import logging
import time


def configure_logging(service: str, level: str) -> None:
    """Sets up the root logger.

    Args:
        service: Name of the service, on every line.
        level: Least severe level that is written, such as "INFO".
    """
    logging.basicConfig(
        level=level.upper(),
        format=f"%(asctime)s.%(msecs)03dZ {service} %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.Formatter.converter = time.gmtime
    # A line for every HTTP request, or for every plugin of the migrations, is noise at INFO.
    for library in ("httpx", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
