import pytest

from services.gateway.control.scaling import Scale, read_scale
from steersman.errors import InvalidArgumentError
from steersman.settings import Settings
from steersman.v1.deployment_pb2 import DeployRequest

SETTINGS = Settings(replica_cpus=0.25, replica_gpus=0.0)
KEPT = Scale(2, 5, 1.0, 0.5)


@pytest.mark.parametrize(
    ("asked", "kept", "expected"),
    [
        (DeployRequest(), None, Scale(1, 1, 0.25, 0.0)),
        (DeployRequest(), KEPT, KEPT),
        (DeployRequest(replicas=3), None, Scale(3, 3, 0.25, 0.0)),
        (DeployRequest(replicas=3), KEPT, Scale(3, 3, 1.0, 0.5)),
        (DeployRequest(min_replicas=0), KEPT, Scale(0, 5, 1.0, 0.5)),
        (DeployRequest(min_replicas=8), KEPT, Scale(8, 8, 1.0, 0.5)),
        (DeployRequest(max_replicas=1), KEPT, Scale(1, 1, 1.0, 0.5)),
        (DeployRequest(min_replicas=0, max_replicas=9), None, Scale(0, 9, 0.25, 0.0)),
        (DeployRequest(replica_cpus=0.0, replica_gpus=0.125), KEPT, Scale(2, 5, 0.0, 0.125)),
        (DeployRequest(replica_gpus=2.0), KEPT, Scale(2, 5, 1.0, 2.0)),
    ],
)
def test_what_is_not_asked_for_is_kept(asked: DeployRequest, kept: Scale | None, expected: Scale) -> None:
    assert read_scale(asked, kept, SETTINGS) == expected


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (DeployRequest(replicas=2, max_replicas=3), "got both"),
        (DeployRequest(replicas=1001), "got 1001"),
        (DeployRequest(max_replicas=1001), "got 1001"),
        (DeployRequest(max_replicas=0), "got 0 to 0"),
        (DeployRequest(min_replicas=3, max_replicas=2), "got 3 to 2"),
        (DeployRequest(replica_cpus=-1), "got -1"),
        (DeployRequest(replica_cpus=float("nan")), "got nan"),
        (DeployRequest(replica_cpus=0.00001), "got 1e-05"),
        (DeployRequest(replica_gpus=1.5), "got 1.5"),
    ],
)
def test_limits_that_make_no_sense_are_refused(asked: DeployRequest, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        read_scale(asked, None, SETTINGS)
