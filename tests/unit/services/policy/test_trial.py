import signal
import sys
from pathlib import Path

import pytest

from services.policy.trial import try_bundle
from steersman.errors import InternalError
from tests.bundles import write_linear_bundle


def test_a_bundle_that_loads_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_linear_bundle(tmp_path / "bundle")
    try_bundle(bundle, tmp_path / "tried")
    monkeypatch.setattr(sys, "executable", "/no/such/interpreter")
    try_bundle(bundle, tmp_path / "tried")


def test_one_that_ends_its_process_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter here ends as one does that a native library aborts, or that gets no more memory."""
    fatal = tmp_path / "python"
    fatal.write_text(f"#!/bin/sh\nkill -{signal.SIGABRT.value} $$\n")
    fatal.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fatal))
    bundle = write_linear_bundle(tmp_path / "bundle")
    with pytest.raises(InternalError, match="ended by SIGABRT"):
        try_bundle(bundle, tmp_path / "tried")
    assert not (tmp_path / "tried").exists()
