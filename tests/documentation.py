"""The code blocks of README.md and docs/.

Every `sh` and `python` block is run by `tests/end_to_end/test_documentation.py`, those of a page in order, against a
whole stack. A comment on the line before a block says where it is otherwise:

    <!-- not run: REASON -->      this block cannot be run there
    <!-- long: REASON -->         it is run by `make test-long` only
    <!-- file: NAME -->           it is a file that the blocks of the page find where they run
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_FENCED = re.compile(r"(?:^<!-- (not run|long|file): ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        page: The file.
        line: The line on which it begins, from 1.
        language: "sh", "python", "toml" or "text".
        code: What is in it.
        mark: "not run", "long", "file", or nothing.
        note: The reason for the mark, or the name of the file.
    """

    page: Path
    line: int
    language: str
    code: str
    mark: str
    note: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """Gives the commands of a shell block, one a line, as words."""
        for line in self.code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks(page: Path) -> list[Block]:
    """Reads the code blocks of a page.

    Args:
        page: A Markdown file.
    """
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start(3)) + 1,
            language=found[3],
            code=found[4],
            mark=found[1] or "",
            note=found[2] or "",
        )
        for found in _FENCED.finditer(text)
    ]
