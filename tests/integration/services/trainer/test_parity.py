"""For everything that is supported: the bundle acts as RLlib's own inference path does, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.tune.trainable import trainable

from tests.integration.services.trainer import parity
from tests.integration.services.trainer.combinations import COMBINATIONS, Combination
from tests.integration.services.trainer.supported_table import PAGE, describe, page

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def _ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Outside of Tune, an algorithm makes a folder for its logs in the home folder and nothing can tell it otherwise.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainable, "DEFAULT_STORAGE_PATH", str(tmp_path_factory.mktemp("logs")))
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False
        )
        yield
        ray.shutdown()


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda combination: ", ".join(describe(combination)))
def test_the_bundle_acts_as_rllib_does(combination: Combination, tmp_path: Path) -> None:
    parity.check(combination, tmp_path)


def test_the_page_lists_what_is_tested() -> None:
    assert PAGE.read_text() == page(), "run: make docs"
