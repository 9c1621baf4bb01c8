"""The command line: `steersman`."""

from __future__ import annotations

import sys

from steersman.cli.app import app
from steersman.cli.connection import choose_timeout
from steersman.cli.output import print_error
from steersman.errors import SteersmanError


def main() -> None:
    """Runs the command line. Errors become one sentence on standard error and exit code 1."""
    try:
        choose_timeout(None)
        app()
    except SteersmanError as error:
        print_error(str(error))
        sys.exit(1)
