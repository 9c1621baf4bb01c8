"""Faults for real, on a stack of their own: those that take seconds. `make faults` makes all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# They load the machine for minutes, which would cost tests that run beside them their time limits.
pytestmark = [pytest.mark.integration, pytest.mark.long]

QUICK = ("gateway-killed", "version-crashes-on-load", "version-fails-on-first-batch", "version-gains-memory")
REQUESTS = 2000
PROTOCOLS = {"unary", "stream", "oip", "oip-stream"}


@pytest.mark.timeout(600)
def test_faults_that_clients_do_not_notice(tmp_path: Path) -> None:
    # Tests share the machine, so the load is less than that of `make faults`.
    command = [sys.executable, "-m", "faults", "--rate=500", f"--requests={REQUESTS}"]
    command += [f"--fault={name}" for name in QUICK]
    environment = os.environ | {"STEERSMAN_VAR_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "faults.json").read_text())["faults"]
    assert [entry["name"] for entry in written] == list(QUICK)
    for entry in written:
        assert entry["failed"] == 0
        assert entry["requests"] >= REQUESTS
        assert entry["times"] >= 1
        assert entry["protocols"].keys() == PROTOCOLS
        assert all(counts["answered"] == counts["sent"] > 0 for counts in entry["protocols"].values())
