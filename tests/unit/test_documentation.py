"""The code blocks of the documentation are understood by what they name, also those that are not run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

from steersman.cli.app import app
from steersman.settings import Settings
from tests.documentation import PAGES, ROOT, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [
    pytest.param(words, id=f"{block} {' '.join(words)}")
    for block in BLOCKS
    if block.language == "sh"
    for words in block.commands()
]


def test_every_fence_is_read() -> None:
    fences = sum(len(re.findall("^```", page.read_text(), re.MULTILINE)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_marks_have_reasons_and_belong_to_code(block: Block) -> None:
    if block.mark in {"not run", "long"}:
        assert block.language in {"sh", "python"}
        assert len(block.note) > 5
    assert block.language in {"sh", "python", "toml", "text"}


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "text"], ids=str)
def test_what_could_be_run_is_no_mere_text(block: Block) -> None:
    assert not re.search(r"^(steersman|make|curl|\.venv/bin/\w+|python|import) ", block.code, re.MULTILINE)


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_and_their_options_exist(words: list[str]) -> None:
    program, *arguments = words
    if program == "steersman":
        parse(typer.main.get_command(app), arguments)
    elif program == "make":
        target = re.escape(arguments[0])
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    else:
        assert program in {"curl", "perf_analyzer", "python", ".venv/bin/pytest"}


def parse(command: Any, arguments: list[str]) -> None:  # noqa: ANN401 - of the click that is within Typer
    """Has a command read its arguments, and not act on them."""
    context = command.make_context("steersman", arguments)
    left = [*context._protected_args, *context.args]
    if left and hasattr(command, "resolve_command"):
        _, subcommand, left = command.resolve_command(context, left)
        parse(subcommand, left)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=str)
def test_python_can_be_compiled(block: Block) -> None:
    compile(block.code, str(block), "exec")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_toml_can_be_read(block: Block) -> None:
    tomllib.loads(block.code)


def test_addresses_are_the_defaults() -> None:
    table = re.findall(r"\| `([^`]+)` \| `STEERSMAN_([A-Z_]+)` \|", (ROOT / "README.md").read_text())

    assert table
    for address, name in table:
        assert Settings.model_fields[name.lower()].default == address


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target
