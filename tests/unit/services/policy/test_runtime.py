from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.common.bundle import MODEL, write_bundle
from services.policy.runtime import PolicyRuntime
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2
from tests.bundles import linear_spec, write_linear_bundle


def test_actions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    runtime = PolicyRuntime(write_linear_bundle(tmp_path, actions=5))
    batch = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    together = runtime.compute({"observation": batch})["action"]
    alone = [runtime.compute({"observation": row[np.newaxis]})["action"][0] for row in batch]
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.int64
    assert len(set(together.tolist())) > 1


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, b"no model", linear_spec(), {})
    with pytest.raises(InvalidArgumentError, match=f"cannot load .*{MODEL}"):
        PolicyRuntime(bundle)


def test_a_model_that_does_not_match_its_manifest_is_refused(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path)
    spec = common_pb2.PolicySpec()
    spec.CopyFrom(bundle.spec)
    spec.observation_tensors[0].name = "position"
    with pytest.raises(InvalidArgumentError, match=r"expected .* to take"):
        PolicyRuntime(replace(bundle, spec=spec))


def test_a_model_that_cannot_compute_what_the_manifest_promises_is_refused_when_it_is_warmed(tmp_path: Path) -> None:
    bundle = write_linear_bundle(tmp_path, observation_size=3)
    spec = common_pb2.PolicySpec()
    spec.CopyFrom(bundle.spec)
    spec.observation_tensors[0].shape[0] = 4
    with pytest.raises(InvalidArgumentError, match="cannot compute"):
        PolicyRuntime(replace(bundle, spec=spec))
