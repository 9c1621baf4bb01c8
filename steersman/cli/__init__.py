"""The command line: `steersman`."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from steersman.cli.app import app
from steersman.cli.output import print_error
from steersman.errors import SteersmanError


def main() -> None:
    """Runs the command line. Errors become one sentence on standard error and exit code 1."""
    try:
        app()
    except SteersmanError as error:
        print_error(str(error))
        sys.exit(1)
    except ValidationError as error:
        # Only settings are validated by pydantic.
        problems = "; ".join(f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in error.errors())
        print_error(f"a setting is wrong: {problems}")
        sys.exit(1)
