"""Logging, the same in every service: one line an event, to standard error, in UTC."""

from __future__ import annotations

import logging
import time
import unicodedata

_SEPARATORS = frozenset({"Cc", "Zl", "Zp"})
"""Categories of characters that begin a new line, or move a terminal's cursor."""


class _LineFormatter(logging.Formatter):
    """Writes each message as one line, whatever text of others is in it; a traceback follows on lines of its own."""

    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Escapes what would end the line."""
        if not record.message.isprintable():
            record.message = "".join(map(_escaped, record.message))
        return super().formatMessage(record)


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _SEPARATORS:
        return character.encode("unicode_escape").decode()
    return character


def configure_logging(service: str, level: str) -> None:
    """Sets up the root logger.

    Args:
        service: Name of the service, on every line.
        level: Least severe level that is written, such as "INFO".
    """
    handler = logging.StreamHandler()
    line = f"%(asctime)s.%(msecs)03dZ {service} %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(_LineFormatter(line, "%Y-%m-%dT%H:%M:%S"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A line for every HTTP request, or for every plugin of the migrations, is noise at INFO.
    for library in ("httpx", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
