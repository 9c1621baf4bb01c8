from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from services.common.logs import _LineFormatter

HOSTILE = "a\nb\r\x1b[2J\x85\u2028\u2029é\t\\n"


def written(record: logging.LogRecord) -> str:
    return _LineFormatter("%(levelname)s: %(message)s").format(record)


def test_a_message_is_one_line_whatever_is_in_it() -> None:
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "got %s", (HOSTILE,), None)
    assert written(record) == r"INFO: got a\nb\r\x1b[2J\x85\u2028\u2029é\t\n"
    assert len(written(record).splitlines()) == 1


def test_a_traceback_follows_on_lines_of_its_own() -> None:
    with pytest.raises(ValueError, match="wrong") as raised:
        raise ValueError("wrong")
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "it failed\nINFO: not", (), raised._excinfo)
    lines = written(record).splitlines()
    assert lines[0] == r"ERROR: it failed\nINFO: not"
    assert lines[1].startswith("Traceback")
    assert lines[-1] == "ValueError: wrong"


def test_every_service_writes_so() -> None:
    code = (
        "import logging; from services.common.logs import configure_logging; configure_logging('gateway', 'info');"
        "logging.getLogger('a').info('one\\ntwo'); logging.getLogger('httpx').info('noise')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith(r"Z gateway INFO a: one\ntwo")
