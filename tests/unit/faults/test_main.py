import subprocess
import sys

from faults.catalogue import FAULTS


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "faults", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_all_faults_are_listed() -> None:
    done = run("--list")
    assert done.returncode == 0
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(FAULTS)


def test_an_unknown_fault_is_refused_before_anything_is_started() -> None:
    done = run("--fault", "earthquake")
    assert done.returncode == 2
    assert "earthquake" in done.stderr
