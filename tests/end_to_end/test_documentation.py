"""The code blocks of README.md and docs/, those of each page in order, against a whole stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import pytest
from mlflow import MlflowClient

from steersman import spaces
from steersman.settings import Settings
from tests.bundles import write_linear_bundle
from tests.conftest import Stack
from tests.documentation import PAGES, ROOT, Block, blocks

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

SEEDS = {7: 51, 8: 8}
"""Versions of `cartpole` that the blocks name, and seeds of random linear policies that play 190 and 500 steps."""


def to_run(page: Path, *, long: bool) -> bool:
    return any(block.language in {"sh", "python"} and block.mark == ("long" if long else "") for block in blocks(page))


# Those of the README train, which takes a minute.
SHORT = [
    pytest.param(page, id=page.name, marks=[pytest.mark.long] if page.name in {"README.md", "autoscaling.md"} else [])
    for page in PAGES
    if to_run(page, long=False)
]
LONG = [pytest.param(page, id=page.name) for page in PAGES if to_run(page, long=True)]


def variables(stack: Stack) -> dict[str, str]:
    """What makes a command find the stack."""
    settings = {
        f"STEERSMAN_{name.upper()}": str(value)
        for name, value in stack.settings.model_dump(mode="json", exclude_none=True).items()
        if name.endswith(("_address", "_url"))
    }
    scripts = Path(sys.executable).parent
    return {**os.environ, **settings, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}


def here(text: str, settings: Settings) -> str:
    """Puts the addresses of a stack in the places of the default ones."""
    actual = settings.model_dump(mode="json")
    for name, field in Settings.model_fields.items():
        if name.endswith(("_address", "_url")):
            text = text.replace(field.default, actual[name])
    return text


def run(stack: Stack, folder: Path, language: str, code: str) -> str:
    """Runs code as a reader would, and gives what it prints."""
    command = ["bash", "-euc"] if language == "sh" else [sys.executable, "-c"]
    done = subprocess.run(
        [*command, here(code, stack.settings)],
        env=variables(stack),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def registry(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """The model registry, with the versions of `cartpole` that the blocks name and those before them."""
    client = MlflowClient(tracking_uri=stack.settings.mlflow_url)
    bounds = spaces.from_gymnasium(gymnasium.make("CartPole-v1").observation_space)
    client.create_registered_model("cartpole")
    for version in range(1, max(SEEDS) + 1):
        folder = tmp_path_factory.mktemp("bundle")
        write_linear_bundle(folder, seed=SEEDS.get(version, version), bounds=bounds)
        run_ = client.create_run("0")
        client.log_artifacts(run_.info.run_id, str(folder), "bundle")
        client.create_model_version("cartpole", f"{run_.info.artifact_uri}/bundle", run_id=run_.info.run_id)
    return client


@pytest.fixture
def folder(stack: Stack, registry: MlflowClient, tmp_path: Path) -> Path:
    """A folder that looks like the repository's and has its own `var`; `cartpole` is as the pages assume it."""
    for entry in ROOT.iterdir():
        if entry.name != "var":
            (tmp_path / entry.name).symlink_to(entry)
    run(stack, tmp_path, "sh", "steersman deploy cartpole:7; steersman promote cartpole:7")
    run(stack, tmp_path, "sh", "steersman alias cartpole:8 candidate")
    deadline = time.monotonic() + 120
    while registry.get_registered_model("cartpole").aliases != {"champion": "7", "candidate": "8"}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return tmp_path


def run_page(stack: Stack, folder: Path, page: Path, mark: str) -> list[tuple[Block, str]]:
    """Runs the blocks of a page that have a mark, and gives what each printed."""
    for block in blocks(page):
        if block.mark == "file":
            (folder / block.note).write_text(block.code)
    return [
        (block, run(stack, folder, block.language, block.code))
        for block in blocks(page)
        if block.language in {"sh", "python"} and block.mark == mark
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="one of the blocks needs curl")
@pytest.mark.parametrize("page", SHORT)
def test_the_blocks_run_in_order(stack: Stack, folder: Path, page: Path) -> None:
    outputs = run_page(stack, folder, page, mark="")

    if page.name == "README.md":
        *_, (python, episode_return), (_, curl) = outputs
        assert python.language == "python"
        assert float(episode_return) > 100
        assert re.fullmatch(r'\{"action":[01],"version":\d+\}', curl.strip())


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", LONG)
def test_the_blocks_that_take_minutes_run_in_order(stack: Stack, folder: Path, page: Path) -> None:
    run_page(stack, folder, page, mark="long")
