"""Generates the Python stubs of `protos/` into the folders of their packages, such as `steersman/v1/`.

Runs as hatchling's build hook, so that every wheel and every editable install holds the stubs, and by hand as
`python protos/generate.py`. The stubs are never committed.
"""

import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent


class GenerateStubs(BuildHookInterface[Any]):
    """Hatchling's hook: generates the stubs before files are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates the stubs into the source tree, from where `artifacts` takes them."""
        generate(Path(self.root))


def generate(root: Path) -> None:
    """Generates messages, services and their type stubs.

    Args:
        root: The project's root folder.

    Raises:
        RuntimeError: If protoc refuses a file; its message is on standard error.
    """
    # Imported late: an sdist can be described without protoc.
    from grpc_tools import protoc

    sources = sorted((root / "protos").rglob("*.proto"))
    packages = sorted({path.parent.relative_to(root / "protos") for path in sources})
    for package in packages:
        shutil.rmtree(root / package, ignore_errors=True)
    # protoc looks for its plugins on PATH, where an unactivated virtual environment is not.
    plugins = {
        name: shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
        for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    }
    arguments = [
        "protoc",
        f"-I{root / 'protos'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--python_out={root}",
        f"--grpc_python_out={root}",
        f"--mypy_out=quiet:{root}",
        f"--mypy_grpc_out=quiet:{root}",
        *(f"--plugin={name}={path}" for name, path in plugins.items()),
        *(str(path) for path in sources),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc could not generate the stubs")
    for package in packages:
        (root / package / "__init__.py").write_text(f'"""Generated from protos/{package}; do not edit."""\n')


if __name__ == "__main__":
    generate(ROOT)
