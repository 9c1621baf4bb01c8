"""NVIDIA's Triton (C++) with its Python back end and dynamic batching, as nvidia-pytriton brings it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.loads import Load
from bench.models import CARTPOLE, Models
from bench.protocols import TRITON
from bench.systems.system import System, end, free_address, wait_until_listening
from steersman.settings import port_of

_PACKAGE = "nvidia-pytriton==0.7.0"
"""Brings Triton 2.51 with back ends for each version of Python. It needs an older NumPy than ours, so it is unpacked
and not installed; nothing of its own Python code is used."""

_MAX_BATCH = 256
_START_SECONDS = 60.0

_CONFIG = f"""
backend: "python"
max_batch_size: {_MAX_BATCH}
input [{{name: "observation", data_type: TYPE_FP32, dims: [4]}}]
output [{{name: "action", data_type: TYPE_INT64, dims: [1], reshape: {{shape: []}}}}]
dynamic_batching {{}}
instance_group [{{count: 1, kind: KIND_CPU}}]
parameters {{key: "model", value: {{string_value: "%s"}}}}
"""


class TritonMissingError(Exception):
    """Triton cannot be had on this machine."""


class Triton(System):
    """Triton as a process, and its Python back end as another.

    Args:
        folder: Where it is unpacked, once.
    """

    name = "triton"
    protocol = TRITON

    def __init__(self, folder: Path) -> None:
        self._package = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def fetch(self) -> None:
        """Gets it from the package registry, unless it is there.

        Raises:
            TritonMissingError: If it cannot be had, or does not run here.
        """
        done = self._package / "done"
        if done.exists():
            return
        self._package.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        fetched = subprocess.run(
            [*command, "--dest", str(self._package), _PACKAGE], capture_output=True, text=True, check=False
        )
        if fetched.returncode:
            raise TritonMissingError(f"cannot get {_PACKAGE}: {fetched.stderr.strip()[-300:]}")
        for wheel in self._package.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self._package)
            wheel.unlink()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = self._server / "python_backend_stubs" / version / "triton_python_backend_stub"
        if not stub.exists():
            raise TritonMissingError(f"{_PACKAGE} has nothing for Python {version}")
        shutil.copy(stub, self._server / "backends" / "python")
        for program in (self._server / "bin" / "tritonserver", self._server / "backends" / "python" / stub.name):
            program.chmod(0o755)
        done.touch()

    def start(self, models: Models) -> None:
        """Starts it and waits until it answers."""
        self.fetch()
        self._folder = tempfile.TemporaryDirectory(prefix="steersman-bench-")
        policy = Path(self._folder.name, CARTPOLE)
        (policy / "1").mkdir(parents=True)
        (policy / "config.pbtxt").write_text(_CONFIG % models.cartpole.model_path)
        shutil.copy(Path(__file__).with_name("triton_model.py"), policy / "1" / "model.py")
        self._address = free_address()
        libraries = [str(self._package / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
        self._process = subprocess.Popen(
            [
                str(self._server / "bin" / "tritonserver"),
                f"--model-repository={self._folder.name}",
                f"--backend-directory={self._server / 'backends'}",
                "--grpc-address=127.0.0.1",
                f"--grpc-port={port_of(self._address)}",
                "--allow-http=false",
                "--allow-metrics=false",
            ],
            # Its back end finds this interpreter's packages by the first `python3` on the path.
            env=os.environ
            | {
                "LD_LIBRARY_PATH": ":".join(libraries),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_listening(self._address, self._process, _START_SECONDS)

    def stop(self) -> None:
        """Stops it."""
        end(self._process)
        if self._folder is not None:
            self._folder.cleanup()

    def target(self, load: Load) -> str | None:
        """Takes the loads of CartPole."""
        return self._address if load.policy == CARTPOLE else None

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Is two processes."""
        assert self._process is not None  # noqa: S101 - it runs
        server = psutil.Process(self._process.pid)
        return {"server": [server], "backend": server.children(recursive=True)}

    @property
    def _server(self) -> Path:
        return self._package / "pytriton" / "tritonserver"
