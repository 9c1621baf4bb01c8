"""What all tests share: a short folder for state, and the whole stack, started once."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

from deploy import stack as local_stack
from deploy.own_settings import own_settings
from steersman.settings import Settings


def pytest_configure() -> None:
    """Lets fixtures clean up also when the tests are told to end, and property tests take the time that they need."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # How long examples take says more about what else the machine does than about the tests.
    hypothesis.settings.register_profile(
        "steersman", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("steersman")


@dataclass(frozen=True)
class Stack:
    """A whole stack that runs.

    Attributes:
        settings: Its settings; `var_dir` is absolute.
    """

    settings: Settings


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Keeps the settings of whoever runs the tests out of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("STEERSMAN_"):
                patch.delenv(name)
        patch.setenv("STEERSMAN_CONFIG", os.devnull)
        yield


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a path that is short enough for Unix sockets, gone after the session."""
    # pytest's own temporary folders have long names.
    folder = Path(tempfile.mkdtemp(prefix="sm-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(_no_settings_from_outside: None, short_folder: Path) -> Iterator[Stack]:
    """The whole stack: Ray, MLflow, gateway, trainer and evaluator, on free ports, stopped after the session."""
    settings = own_settings(short_folder / "v")
    try:
        local_stack.start(settings)
    except local_stack.ProgramCrashedError as error:
        pytest.fail(f"{error}\n{error.log_tail}")
    try:
        yield Stack(settings)
    finally:
        local_stack.stop(settings)
