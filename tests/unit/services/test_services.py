from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["services.policy.model", "services.trainer.job.greedy"])
def test_what_computes_tells_nobody_that_it_is_used(module: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}

    subprocess.run([sys.executable, "-c", f"import {module}"], env={**environment, "TMPDIR": str(tmp_path)}, check=True)

    # There onnxruntime would keep the number under which it reports.
    assert list(tmp_path.iterdir()) == []
