"""NVIDIA's Triton (C++) with its Python back end and dynamic batching, as nvidia-pytriton brings it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.loads import Load
from bench.models import CARTPOLE, Models
from bench.protocols import TRITON
from bench.systems.system import System, end, free_address, wait_until_listening
from steersman.settings import port_of

_PACKAGES = ("nvidia-pytriton==0.7.0", "onnxruntime>=1.20")
"""Bring Triton 2.51 with back ends for each version of Python, and an older NumPy than ours, which those need. So they
have an environment of their own; nothing of pytriton's own Python code is used."""

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_MAX_BATCH = 512
_START_SECONDS = 60.0

_CONFIG = f"""
backend: "python"
max_batch_size: {_MAX_BATCH}
input [{{name: "observation", data_type: TYPE_FP32, dims: [4]}}]
output [{{name: "action", data_type: TYPE_INT64, dims: [1]}}]
dynamic_batching {{}}
instance_group [{{count: 1, kind: KIND_CPU}}]
parameters {{key: "model", value: {{string_value: "%s"}}}}
"""


class TritonMissingError(Exception):
    """Triton cannot be had on this machine."""


class Triton(System):
    """Triton as a process, and its Python back end as another.

    Args:
        environment: Folder of the virtual environment that it is installed in, once.
    """

    name = "triton"
    protocol = TRITON

    def __init__(self, environment: Path) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def fetch(self) -> None:
        """Gets it from the package registry, unless it is there.

        Raises:
            TritonMissingError: If it cannot be had, or does not run here.
        """
        done = self._environment / "done"
        if done.exists():
            return
        shutil.rmtree(self._environment, ignore_errors=True)
        venv.create(self._environment, with_pip=True)
        install = [str(self._environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        installed = subprocess.run([*install, *_PACKAGES], capture_output=True, text=True, check=False)
        if installed.returncode:
            raise TritonMissingError(f"cannot get {', '.join(_PACKAGES)}: {installed.stderr.strip()[-300:]}")
        stub = self._server / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
        if not stub.exists():
            raise TritonMissingError(f"{_PACKAGES[0]} has nothing for Python {_PYTHON}")
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
        libraries = [str(self._packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
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
                "PATH": f"{self._environment / 'bin'}:{os.environ['PATH']}",
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

    @property
    def has_died(self) -> bool:
        """Triton 2.51 ends with a segmentation fault in every third run or so of a stream."""
        return self._process is not None and self._process.poll() is not None

    def target(self, load: Load) -> str | None:
        """Takes the loads of CartPole."""
        return self._address if load.policy == CARTPOLE else None

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Is two processes."""
        assert self._process is not None  # noqa: S101 - it runs
        server = psutil.Process(self._process.pid)
        return {"server": [server], "backend": server.children(recursive=True)}

    @property
    def _packages(self) -> Path:
        return self._environment / "lib" / f"python{_PYTHON}" / "site-packages"

    @property
    def _server(self) -> Path:
        return self._packages / "pytriton" / "tritonserver"
