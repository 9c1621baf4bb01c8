"""Names of folders that paths, URLs, configuration files and command lines read differently."""

from __future__ import annotations

from hypothesis import strategies as st

KINDS = {
    "space": "my projects (2026)",
    "unicode": "größe-船-🚢",
    "hash": "run #1",
    "percent": "100%20done %(here)s",
    "question": "really?x=1",
    "quote": "somebody's",
    "double-quote": 'so "called"',
    "semicolon": "a ;b; c",
    "shell": "$HOME & `id` *",
    "colon": "C: drive",
    "comma": "one,two",
    "bracket": "[x] {y}",
    "backslash": "back\\slash\\n",
    "line": "two\nlines\tand\x01",
    "long": "/".join(["deep"] * 60),
}
"""By what is odd about them; the long one is several folders deep."""

EVERYTHING = "".join(name for kind, name in KINDS.items() if kind != "long")
"""All of it in one name."""

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in {".", ".."} and len(name.encode()) <= 255
)
"""Any name that a folder can have and that is text."""
