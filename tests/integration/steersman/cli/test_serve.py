"""`steersman serve`: bundles without Ray, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from deploy.free_ports import free_address
from steersman import PolicyClient
from tests import odd_names
from tests.bundles import write_linear_bundle

pytestmark = pytest.mark.integration

MAIN = "from steersman.cli import main; main()"


def start(address: str, var_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"STEERSMAN_GATEWAY_ADDRESS": address, "STEERSMAN_VAR_DIR": str(var_dir)}
    command = [sys.executable, "-c", MAIN, "serve", "--json", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_announcement(process: subprocess.Popen[str]) -> dict[str, object]:
    """Reads the JSON that is printed once everything is ready."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            announcement: dict[str, object] = json.loads("".join(lines))
            return announcement
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_bundles_are_served_without_ray(tmp_path: Path, stop: signal.Signals) -> None:
    first, second = write_linear_bundle(tmp_path / "1"), write_linear_bundle(tmp_path / "2", seed=2)
    address = free_address()
    began = time.monotonic()
    process = start(address, tmp_path / "var", str(first.folder), f"cartpole:5={second.folder}", "--replicas", "2")
    try:
        announcement = read_announcement(process)
        seconds = time.monotonic() - began
        assert announcement["address"] == address
        with PolicyClient("cartpole", address=address) as client, PolicyClient("cartpole:1", address=address) as pinned:
            assert client.request(np.zeros(4)).version == 5
            assert pinned.request(np.zeros((3, 4))).version == 1
        assert len(psutil.Process(process.pid).children()) == 3
        # Two seconds on an idle machine; tests may share theirs with others.
        assert seconds < 30
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(stop)
        try:
            _, errors = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            for leftover in (*children, psutil.Process(process.pid)):
                leftover.kill()
            raise
    assert process.returncode == 0, errors
    assert not any(child.is_running() for child in children)


@pytest.mark.parametrize("name", [odd_names.EVERYTHING, odd_names.KINDS["long"]], ids=["everything", "long"])
def test_bundles_state_and_temporary_files_lie_in_folders_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_linear_bundle(tmp_path / "bundles" / name)
    temporary = tmp_path / "temporary" / name
    temporary.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(temporary))
    address = free_address()
    process = start(address, tmp_path / "state" / name, f"path={bundle.folder}", f"uri={bundle.folder.as_uri()}")
    try:
        read_announcement(process)
        for policy in ("path", "uri"):
            with PolicyClient(policy, address=address) as client:
                assert client.request(np.zeros(4)).version == 1
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundles", "state", "temporary"]
    assert len(list((tmp_path / "state").iterdir())) == 1
    assert (tmp_path / "state" / name / "gateway" / "state_key").is_file()
    assert list(temporary.iterdir()) == []


def test_a_bundle_that_is_none_is_named(tmp_path: Path) -> None:
    process = start(free_address(), tmp_path / "var", f"cartpole={tmp_path}")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"cannot read {tmp_path}/manifest.json" in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells how much memory is shared")
def test_serving_takes_less_than_200_mb(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path / "bundle")
    process = start(free_address(), tmp_path / "var", f"cartpole={bundle.folder}")
    try:
        read_announcement(process)
        whole = psutil.Process(process.pid)
        # What processes share counts once: their sum of resident memory would count it for each.
        memory = [member.memory_full_info().pss for member in (whole, *whole.children(recursive=True))]
        assert len(memory) == 3
        assert sum(memory) < 200e6
    finally:
        process.terminate()
        process.communicate(timeout=30)
