"""Holds docs/architecture.md to the code."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from pathlib import Path

import services.gateway

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
NAMED = re.findall(r"`([^`\n]+)`", PAGE)
MODULES = sorted({name for name in NAMED if re.match(r"(services|steersman|deploy)\.", name)})


def test_every_module_that_the_page_names_is_there() -> None:
    missing = [name for name in MODULES if importlib.util.find_spec(name) is None]

    assert len(MODULES) > 50
    assert missing == []


def test_every_path_that_the_page_names_is_there() -> None:
    paths = [name for name in NAMED if "/" in name]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_page_names_every_wing_of_the_gateway() -> None:
    wings = {module.name for module in pkgutil.iter_modules(services.gateway.__path__) if module.ispkg}

    assert {f"services.gateway.{wing}" for wing in wings} <= set(MODULES)


def test_the_page_is_one_page() -> None:
    assert len(PAGE.splitlines()) < 120
