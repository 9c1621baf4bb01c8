from typing import Any

import pytest

from services.gateway.control import serve_config
from services.gateway.control.desired import DesiredPolicy
from services.gateway.control.scaling import Scale
from services.gateway.dispatch.routes import Route, Shadow
from steersman.settings import Settings

SETTINGS = Settings()
GATEWAYS = ["b:1", "a:1"]
POLICY = DesiredPolicy(
    "cartpole", 5, Scale(0, 4, 0.5, 0.25), Route({7: 9, 8: 1}, Shadow(9, 0.1)), None, {}, {7: "/7", 8: "/8", 9: "/9"}
)


def written() -> dict[str, Any]:
    return serve_config.application(SETTINGS, GATEWAYS, POLICY)


def test_what_was_written_is_a_policy_and_covers_itself() -> None:
    assert serve_config.is_policy(written())
    assert serve_config.covers(written(), written())
    assert not serve_config.is_policy({"import_path": "somebody.elses:app"})
    assert not serve_config.is_policy(None)


def test_all_gateways_write_the_same_whatever_order_they_know_each_other_in() -> None:
    assert written() == serve_config.application(SETTINGS, GATEWAYS[::-1], POLICY)


def test_what_ray_serve_adds_does_not_matter() -> None:
    found = written()
    found["runtime_env"] = {}
    found["deployments"][0]["autoscaling_config"]["smoothing_factor"] = 1.0
    assert serve_config.covers(found, written())


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["deployments"][0]["user_config"]["versions"].pop("9"),
        lambda found: found["deployments"][0]["user_config"]["versions"].update({"10": "/10"}),
        lambda found: found["deployments"][0]["autoscaling_config"].update(max_replicas=5),
        lambda found: found["args"].update(max_batch_size=1),
        lambda found: found["deployments"].append({}),
        lambda found: found.pop("route_prefix"),
    ],
)
def test_drift_is_seen(change: Any) -> None:  # noqa: ANN401 - any change of a dictionary
    found = written()
    change(found)
    assert not serve_config.covers(found, written())


def test_what_runs_can_be_adopted() -> None:
    assert serve_config.adoptable(written()) == (7, "/7", POLICY.scale)


def test_what_nobody_here_has_written_cannot() -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        serve_config.adoptable({"deployments": [{"user_config": {"versions": {}}}]})
