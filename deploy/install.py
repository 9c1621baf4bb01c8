"""Installs Steersman into the virtual environment that runs this file. `make setup` calls it.

Only the standard library is used here, since nothing else is installed yet. pip does the work, so its own configuration
(indexes, find-links, proxies, certificates) holds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def main() -> None:
    """Installs the project, editable, with everything that its development needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--torch",
        choices=["cpu", "cuda"],
        default="cpu",
        help="which build of PyTorch to prefer; PyPI's for Linux comes with gigabytes of CUDA (default: %(default)s)",
    )
    options = parser.parse_args()
    if sys.prefix == sys.base_prefix:
        sys.exit("error: expected to run in a virtual environment; use: make setup")

    with (ROOT / "pyproject.toml").open("rb") as file:
        build_requirements = tomllib.load(file)["build-system"]["requires"]
    # Installed first, so that building the project needs no environment of its own, whose packages nothing would pin.
    _install(*build_requirements, "editables")
    extra = _cpu_index() if options.torch == "cpu" and sys.platform == "linux" else []
    _install("--no-build-isolation", *extra, "--editable", f"{ROOT}[dev]")


def _install(*arguments: str) -> None:
    """Runs `pip install` with the pinned versions, and ends this program if it fails."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), *arguments]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        sys.exit(f"error: pip could not install {arguments[-1]}; it says why above")


def _cpu_index() -> list[str]:
    """Gives the pip options that make a CPU build of PyTorch available.

    Returns:
        Nothing if the configured indexes or find-links offer one, since pip prefers it; else PyTorch's own index, if it
        can be reached.
    """
    version = f"{_pinned('torch')}+cpu"
    if version in _offered("torch"):
        return []
    if version in _offered("torch", "--index-url", PYTORCH_CPU_INDEX, "--timeout", "5", "--retries", "0"):
        return ["--extra-index-url", PYTORCH_CPU_INDEX]
    _note(f"no CPU build of PyTorch is on offer here or at {PYTORCH_CPU_INDEX}; the one with CUDA is large")
    return []


def _pinned(package: str) -> str:
    """Gives the version of a package in the constraints."""
    match = re.search(rf"^{re.escape(package)}==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    if match is None:
        sys.exit(f"error: expected {CONSTRAINTS} to pin {package}")
    return match[1]


def _offered(package: str, *options: str) -> set[str]:
    """Gives the versions of a package that pip would install here; downloads nothing.

    Args:
        package: Its name.
        *options: Options for pip.
    """
    command = [sys.executable, "-m", "pip", "index", "versions", package, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    _, _, versions = done.stdout.partition("Available versions:")
    return {version.strip() for version in versions.partition("\n")[0].split(",")}


def _note(message: str) -> None:
    """Tells the user something."""
    sys.stderr.write(f"note: {message}\n")


if __name__ == "__main__":
    main()
