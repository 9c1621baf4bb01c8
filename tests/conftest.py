"""What all tests share: a folder for the session, the whole stack, started once, and an end that leaves nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from deploy import layout
from deploy import stack as local_stack
from deploy.own_settings import own_settings
from deploy.programs import Program, local_programs
from steersman.settings import Settings
from tests import leftovers
from tests.scheduling import SlowestFirst, slowest_first

_FOLDER = pytest.StashKey[Path]()
# URLs, shells and configuration files read some of these characters in ways of their own.
_VAR_DIR = "somebody's state #1 (100%25; größe $HOME?)"


def pytest_configure(config: pytest.Config) -> None:
    """Makes the session's folder, and what the tests see of the outside the same everywhere."""
    # So that fixtures clean up also when the tests are told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # How long examples take says more about what else the machine does than about the tests.
    hypothesis.settings.register_profile(
        "steersman", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("steersman")
    # Neither the settings nor the terminal nor the proxies of whoever runs the tests are the tests'.
    outside = ("STEERSMAN_", "COLUMNS", "LINES", "HTTP_PROXY", "HTTPS_PROXY", "GRPC_PROXY", "ALL_PROXY")
    for name in [name for name in os.environ if name.upper().startswith(outside)]:
        del os.environ[name]
    os.environ["STEERSMAN_CONFIG"] = os.devnull
    if _is_worker(config):
        config.stash[_FOLDER] = Path(os.environ[leftovers.FOLDER_VARIABLE])
        return
    # pytest's own temporary folders have names that are too long for Unix sockets.
    config.stash[_FOLDER] = folder = Path(tempfile.mkdtemp(prefix="sm-", dir="/tmp"))
    leftovers.mark_from_now_on(folder)
    _stack_file(folder).write_text(own_settings(folder / _VAR_DIR).model_dump_json())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Has workers take first what takes longest."""
    if _is_worker(config):
        items[:] = slowest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SlowestFirst:  # noqa: ANN401 - xdist has no types
    """Chooses how tests are handed out to workers."""
    return SlowestFirst(config, log)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stops the stack and ends what else is left, once all workers have finished; leftovers count as an error."""
    folder = session.config.stash[_FOLDER]
    if _is_worker(session.config):
        return
    if (folder / _VAR_DIR).exists():
        local_stack.stop(_stack_settings(folder))
    left = leftovers.end_leftovers(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if not left:
        return
    session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if reporter := session.config.pluginmanager.get_plugin("terminalreporter"):
        message = "\n".join(["expected no process to be left after the tests, got:", *left])
        place = ("tests/conftest.py", None, "leftovers")
        reporter.stats.setdefault("error", []).append(
            pytest.TestReport("tests::leftovers", place, {}, "failed", message, "teardown")
        )


def _is_worker(config: pytest.Config) -> bool:
    """Tells whether this process runs tests for another one."""
    return hasattr(config, "workerinput")


@dataclass(frozen=True)
class Stack:
    """A stack that runs, or a part of one.

    Attributes:
        settings: Its settings; `var_dir` is absolute.
    """

    settings: Settings


@pytest.fixture(scope="session")
def short_folder(pytestconfig: pytest.Config) -> Path:
    """A folder with a path that is short enough for Unix sockets, gone after the session."""
    folder = pytestconfig.stash[_FOLDER] / os.environ.get("PYTEST_XDIST_WORKER", "m").removeprefix("gw")
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Stack:
    """The whole stack: Ray, MLflow, gateway, trainer and evaluator, on free ports.

    All workers share one, which the first that needs it starts and the end of the session stops. So a test names its
    policies as no other test does, and leaves alone what it has not made.
    """
    return _started(_stack_settings(pytestconfig.stash[_FOLDER]))


@pytest.fixture(scope="module")
def own_stack(short_folder: Path) -> Iterator[Stack]:
    """A stack of the module's own, for tests that harm it."""
    with _own(short_folder) as started:
        yield started


@pytest.fixture(scope="module")
def own_serving(short_folder: Path) -> Iterator[Stack]:
    """Ray and a gateway of the module's own, for tests that change or count all that is served."""
    with _own(short_folder, "ray", "gateway") as started:
        yield started


@contextlib.contextmanager
def _own(folder: Path, *programs: str) -> Iterator[Stack]:
    """Runs some programs of a stack, or all of them, until the block ends."""
    settings = layout.absolute(own_settings(Path(tempfile.mkdtemp(dir=folder))))
    chosen = [program for program in local_programs(settings) if not programs or program.name in programs]
    try:
        yield _started(settings, chosen)
    finally:
        local_stack.stop(settings)


def _started(settings: Settings, programs: Sequence[Program] | None = None) -> Stack:
    try:
        local_stack.start(settings, programs)
    except local_stack.ProgramCrashedError as error:
        pytest.fail(f"{error}\n{error.log_tail}")
    return Stack(settings)


def _stack_file(folder: Path) -> Path:
    return folder / "stack.json"


def _stack_settings(folder: Path) -> Settings:
    return Settings.model_validate_json(_stack_file(folder).read_text())
