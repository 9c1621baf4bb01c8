"""The user's own code on its way to the cluster: packed by the trainer, kept, and uploaded to Ray.

What was packed is kept in the trainer's folder under a name that stands for its content, so that a run can be started
again with the code that it was started with, whatever became of the user's folder.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from services.common.code import pack_code
from services.trainer.cluster.ray_jobs import RayJobs
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2


def pack(spec: trainer_pb2.RunSpec, folder: Path) -> trainer_pb2.RunSpec:
    """Packs a run's code.

    Args:
        spec: What was asked for.
        folder: Where packages are kept.

    Returns:
        The same with the packages' paths, absolute, instead of those of folders and of `file:` URIs. Other URIs stay.

    Raises:
        InvalidArgumentError: If there is no such folder, it is too large, or it would hide Steersman's own modules.
    """
    packed = trainer_pb2.RunSpec()
    packed.CopyFrom(spec)
    packed.ClearField("code")
    if spec.code.working_dir or spec.code.py_modules:
        packed.code.CopyFrom(pack_code(spec.code, folder))
    return packed


async def upload(packed: trainer_pb2.Code, ray_jobs: RayJobs) -> dict[str, Any]:
    """Uploads packed code to Ray.

    Args:
        packed: Of a spec that `pack` gave.
        ray_jobs: Ray.

    Returns:
        What `RayJobs.submit` takes; empty for a run without code of the user's own.

    Raises:
        InvalidArgumentError: If a package is gone.
        UnavailableError: If Ray cannot be reached.
    """
    found: dict[str, Any] = {}
    if packed.working_dir:
        found["working_dir"] = await _uploaded(packed.working_dir, ray_jobs)
    if packed.py_modules:
        found["py_modules"] = [await _uploaded(path, ray_jobs) for path in packed.py_modules]
    return found


async def _uploaded(path: str, ray_jobs: RayJobs) -> str:
    if "://" in path:
        return path
    try:
        content = await asyncio.to_thread(Path(path).read_bytes)
    except OSError as error:
        raise InvalidArgumentError(f"cannot read the run's code: {error}") from error
    # Ray knows what it has to unpack by this name.
    return await ray_jobs.upload(f"_ray_pkg_{Path(path).stem}.zip", content)
