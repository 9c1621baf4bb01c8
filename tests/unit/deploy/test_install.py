from __future__ import annotations

import re
import tomllib

import pytest

from deploy import install


def test_the_constraints_pin_every_dependency_once() -> None:
    with (install.ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    requirements = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(each for extra in project["project"]["optional-dependencies"].values() for each in extra),
    ]
    pins = re.findall(r"^([\w.-]+)==\S+$", install.CONSTRAINTS.read_text(), re.MULTILINE)
    pinned = [normalized(name) for name in pins]

    assert len(set(pinned)) == len(pinned)
    for requirement in requirements:
        name = normalized(re.split(r"[\[=<>~! ]", requirement)[0])
        assert name == "steersman" or name in pinned, requirement


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_torch_is_pinned_without_a_build_so_that_cpu_and_cuda_fit() -> None:
    assert re.fullmatch(r"[\d.]+", install._pinned("torch"))


def test_a_package_without_a_pin_is_named() -> None:
    with pytest.raises(SystemExit, match="no-such-package"):
        install._pinned("no-such-package")
