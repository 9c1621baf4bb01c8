"""Generates `docs/settings.md` from `steersman.settings`. `make docs` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from steersman.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

_INTRODUCTION = """\
# Settings

Generated from `steersman/settings.py` by `make docs`; do not edit.

Every process and the command line read the same settings. A value comes from the environment variable below if that is
set and not empty, else from the TOML file that `STEERSMAN_CONFIG` names (`steersman.toml` in the working folder by
default), else it is the default. In the TOML file the names are in lower case, without `STEERSMAN_`:

```toml
gateway_address = "127.0.0.1:6000"
log_level = "DEBUG"
```

| variable | default | meaning |
|---|---|---|
"""


def page() -> str:
    """Writes the page."""
    rows = [
        f"| `STEERSMAN_{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return _INTRODUCTION + "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    """Writes a default as one would set it."""
    value: Any = field.default
    return "" if value is None else f"`{value}`"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
