"""A Ray of this process's own, for tests that train in it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.tune.trainable import trainable


@pytest.fixture(scope="module")
def local_ray(short_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Four logical CPUs, until the module's tests are done."""
    with pytest.MonkeyPatch.context() as patch:
        # Outside of Tune, an algorithm makes a folder for its logs in the home folder; nothing can tell it otherwise.
        patch.setattr(trainable, "DEFAULT_STORAGE_PATH", str(tmp_path_factory.mktemp("logs")))
        told_to_end = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(short_folder / "ray"),
        )
        # Ray's own handler would end the tests without their fixtures.
        signal.signal(signal.SIGTERM, told_to_end)
        yield
        ray.shutdown()
