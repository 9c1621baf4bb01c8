"""The README's code blocks, run in order against a whole stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from steersman.settings import Settings
from tests.conftest import Stack

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

README = Path(__file__).resolve().parents[2] / "README.md"
SET_UP = "<!-- set-up -->\n"


@dataclass(frozen=True)
class Block:
    """One code block of the README.

    Attributes:
        language: "sh" or "python".
        code: The code.
        is_set_up: Whether it makes the stack that the others run against.
    """

    language: str
    code: str
    is_set_up: bool


def blocks() -> list[Block]:
    found = re.findall(rf"({SET_UP})?```(sh|python)\n(.*?)```", README.read_text(), re.DOTALL)
    return [Block(language, code, is_set_up=bool(mark)) for mark, language, code in found]


def here(text: str, settings: Settings) -> str:
    """Puts the addresses of a stack in the places of the default ones."""
    actual = settings.model_dump(mode="json")
    for name, field in Settings.model_fields.items():
        if name.endswith(("_address", "_url")):
            text = text.replace(field.default, actual[name])
    return text


@pytest.mark.skipif(shutil.which("curl") is None, reason="one of the blocks needs curl")
def test_the_blocks_run_in_order(stack: Stack, tmp_path: Path) -> None:
    variables = {
        f"STEERSMAN_{name.upper()}": str(value)
        for name, value in stack.settings.model_dump(mode="json", exclude_none=True).items()
    }
    scripts = Path(sys.executable).parent
    environment = {**os.environ, **variables, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    outputs = []
    for block in (block for block in blocks() if not block.is_set_up):
        command = ["bash", "-euc"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*command, here(block.code, stack.settings)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)

    _, python, curl = outputs
    assert float(python) > 100
    assert re.fullmatch(r'\{"action":[01],"version":\d+\}', curl.strip())


def test_set_up_blocks_name_targets_that_exist() -> None:
    makefile = (README.parent / "Makefile").read_text()
    targets = [target for block in blocks() if block.is_set_up for target in re.findall(r"\bmake ([a-z]+)", block.code)]

    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_addresses_are_the_defaults() -> None:
    table = re.findall(r"\| `([^`]+)` \| `STEERSMAN_([A-Z_]+)` \|", README.read_text())

    assert table
    for address, name in table:
        assert Settings.model_fields[name.lower()].default == address


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
