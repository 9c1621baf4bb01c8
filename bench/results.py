"""Results: every number of a run, and medians with spread in `var/bench.json`."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One metric of one system under one load.

    Attributes:
        section: Section of the benchmark, such as "serve".
        load: The load.
        system: The system.
        metric: What was measured; the unit is part of the name.
        median: Over the turns.
        min: The smallest.
        max: The largest.
        n: How many turns.
    """

    section: str
    load: str
    system: str
    metric: str
    median: float
    min: float
    max: float
    n: int


@dataclass
class Samples:
    """Numbers as they come in, turn by turn.

    Args:
        section: Section of the benchmark.
    """

    section: str
    _values: dict[tuple[str, str, str], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, load: str, system: str, metric: str, value: float) -> None:
        """Adds one number."""
        self._values[load, system, metric].append(value)

    def take(self, others: Samples) -> None:
        """Adds all numbers of others."""
        for key, values in others._values.items():
            self._values[key].extend(values)

    def rows(self) -> list[Row]:
        """Summarises the numbers."""
        return [
            Row(self.section, *key, statistics.median(values), min(values), max(values), len(values))
            for key, values in self._values.items()
        ]


def machine() -> dict[str, Any]:
    """Describes this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in ("grpcio", "onnxruntime", "protobuf", "ray", "torch")},
    }


def _processor() -> str:
    """Names the processor as Linux does; elsewhere by its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_results(path: Path, section: str, rows: list[Row]) -> list[Row]:
    """Writes a section's rows; those of other sections stay.

    Args:
        path: The file.
        section: The section.
        rows: Its rows.

    Returns:
        All rows in the file.
    """
    others: list[Row] = []
    if path.exists():
        others = [Row(**row) for row in json.loads(path.read_text())["rows"] if row["section"] != section]
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "rows": [asdict(row) for row in others + rows]}
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return others + rows
