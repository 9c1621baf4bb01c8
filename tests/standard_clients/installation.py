"""Installs standard clients on first use, each into a virtual environment below `var/standard-clients`."""

from __future__ import annotations

import contextlib
import ctypes.util
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

_FOLDER = Path(__file__).resolve().parent
_TARGET = _FOLDER.parent.parent / "var" / "standard-clients"
_LIBB64 = "libb64-0d"
_GRPC_JS = "@grpc/grpc-js@1.14.3"
_SECONDS = 240

T = TypeVar("T")


class CannotInstallError(Exception):
    """A client cannot be had here; the message says why."""


def installed(install: Callable[..., T], *arguments: str) -> T:
    """Installs a client, or skips the test and says why."""
    try:
        return install(*arguments)
    except CannotInstallError as error:
        pytest.skip(str(error))


def client_python(name: str) -> Path:
    """Gives the Python that has a client.

    Args:
        name: Name of its requirements file in this folder, without the suffix.

    Raises:
        CannotInstallError: If pip cannot install it.
    """
    requirements = _FOLDER / f"{name}.txt"
    environment = _TARGET / name
    done = environment / "installed.txt"
    with _locked(name):
        if not done.exists() or done.read_text() != requirements.read_text():
            shutil.rmtree(environment, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(environment))
            python = str(environment / "bin" / "python")
            _run(python, "-m", "pip", "install", "--quiet", "--requirement", str(requirements))
            done.write_text(requirements.read_text())
    return environment / "bin" / "python"


def perf_analyzer() -> tuple[Path, dict[str, str]]:
    """Gives NVIDIA's perf_analyzer, and the environment variables that it needs.

    Raises:
        CannotInstallError: If it, or a library that it needs, cannot be installed.
    """
    binaries = client_python("perf_analyzer").parent
    program = binaries / "perf_analyzer"
    if not program.exists():
        raise CannotInstallError("expected perf_analyzer inside tritonclient's wheel, but this platform's has none")
    libraries = [str(path) for path in binaries.parent.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")]
    if ctypes.util.find_library("b64") is None:
        libraries.append(str(_libb64()))
    variables = {"LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")])}
    _run(str(program), "--version", variables=variables)
    return program, variables


def grpc_js() -> tuple[Path, Path]:
    """Gives Node.js, and a folder whose programs find `@grpc/grpc-js`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise CannotInstallError("expected Node.js and npm, got none")
    folder = _TARGET / "grpc-js"
    with _locked("grpc-js"):
        if not (folder / "node_modules" / "@grpc" / "grpc-js").exists():
            folder.mkdir(parents=True, exist_ok=True)
            _run(npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), _GRPC_JS)
    return Path(node), folder


def nghttp2_program(name: str) -> tuple[Path, dict[str, str]]:
    """Gives a program of nghttp2, such as `h2load`, and the environment variables that it needs."""
    if (found := shutil.which(name)) is not None:
        return Path(found), {}
    folder = _debian("nghttp2", "nghttp2-client", "libev4", "libjemalloc2")
    libraries = sorted({str(path.parent) for path in folder.glob("usr/lib/*/*.so*")})
    program, variables = folder / "usr" / "bin" / name, {"LD_LIBRARY_PATH": ":".join(libraries)}
    _run(str(program), "--version", variables=variables)
    return program, variables


def _libb64() -> Path:
    return next(_debian(_LIBB64, _LIBB64).glob("usr/lib/*/libb64.so*")).parent


def _debian(name: str, *packages: str) -> Path:
    """Unpacks Debian's packages into a folder, without installing them."""
    folder = _TARGET / name
    done = folder / "unpacked.txt"
    with _locked(name):
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _run("apt-get", "download", *packages, folder=folder)
            for package in folder.glob("*.deb"):
                _run("dpkg", "--extract", str(package), str(folder))
            done.touch()
    return folder


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Lets one process at a time install a client."""
    _TARGET.mkdir(parents=True, exist_ok=True)
    with (_TARGET / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*command: str, folder: Path | None = None, variables: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | (variables or {}),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstallError(f"expected {command[0]} to work, but: {error}") from error
    if done.returncode:
        *_, said = ["nothing", *(done.stderr or done.stdout).strip().splitlines()]
        raise CannotInstallError(f"expected {' '.join(command)!r} to work, but it said: {said}")
