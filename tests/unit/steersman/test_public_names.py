"""The SDK's public names: the same for sync and async, and with types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

from steersman import aio, client

ROOT = Path(__file__).parents[3]
CLASSES = ["PolicyClient", "ActionStream"]


def methods(kind: type[Any]) -> dict[str, Any]:
    public = {name: member for name, member in vars(kind).items() if not name.startswith("_")}
    return {"__init__": vars(kind)["__init__"], **public}


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any, str]]:
    return [
        (parameter.name, parameter.kind, parameter.default, str(parameter.annotation))
        for parameter in inspect.signature(function).parameters.values()
    ]


def text_of(documented: object) -> str:
    """Gives a docstring without what differs: who may use it, how one waits, and what a stream is made of."""
    text = (inspect.getdoc(documented) or "").partition("\n\nArgs:\n    connection:")[0]
    text = text.partition("\n\nArgs:\n    options:")[0] if inspect.isclass(documented) else text
    text = re.sub(r", (from one event loop|safe to share between threads)", "", text)
    return re.sub(r"\b(async (?=with)|await )", "", text)


def test_modules_have_the_same_names() -> None:
    assert client.__all__ == aio.__all__
    shared = set(client.__all__) - {*CLASSES, "open_channel"}
    assert all(getattr(client, name) is getattr(aio, name) for name in shared)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_have_the_same_methods(name: str) -> None:
    assert list(methods(getattr(client, name))) == list(methods(getattr(aio, name)))
    assert text_of(getattr(client, name)) == text_of(getattr(aio, name))


@pytest.mark.parametrize("name", CLASSES)
def test_methods_have_the_same_signatures_and_docstrings(name: str) -> None:
    sync_methods, aio_methods = (methods(getattr(module, name)) for module in (client, aio))
    for method, function in sync_methods.items():
        if method == "__init__" and name == "ActionStream":
            continue  # made by `PolicyClient.stream` alone
        assert parameters(function) == parameters(aio_methods[method]), method
        assert text_of(function) == text_of(aio_methods[method]), method


@pytest.mark.parametrize("name", CLASSES)
def test_what_waits_in_one_is_awaited_in_the_other(name: str) -> None:
    awaited = {
        method for method, function in methods(getattr(aio, name)).items() if inspect.iscoroutinefunction(function)
    }
    assert {"request", "act", "close"} <= awaited
    for method, function in methods(getattr(client, name)).items():
        returned = str(inspect.signature(function).return_annotation)
        other = str(inspect.signature(methods(getattr(aio, name))[method]).return_annotation)
        assert returned.replace("concurrent.futures.Future", "asyncio.Task") == other, method


def test_the_wheel_says_that_it_has_types() -> None:
    files = {included.distribution_path for included in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert "steersman/py.typed" in files
    assert "steersman/client.py" in files
