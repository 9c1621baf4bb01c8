"""Which part may import which: the contracts in pyproject.toml, as import-linter reads them."""

from pathlib import Path

from importlinter.cli import lint_imports

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_imports_keep_to_the_contracts() -> None:
    # What it prints names the imports that break one.
    assert lint_imports(str(PYPROJECT), no_cache=True, no_logo=True) == 0
