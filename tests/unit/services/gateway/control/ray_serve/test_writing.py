import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from services.gateway.control.desired import DesiredPolicy, RunningPolicy
from services.gateway.control.ray_serve.applications import ApplicationConfig
from services.gateway.control.ray_serve.writing import (
    autoscaling_config,
    covers,
    is_policy,
    read_running_policy,
    write_application,
)
from services.gateway.control.scaling import Scale
from services.gateway.dispatch.routes import Route, Shadow
from services.policy.autoscaling import AutoscalingSettings
from steersman.errors import InvalidArgumentError
from steersman.settings import Settings

SETTINGS = Settings()
GATEWAYS = ["b:1", "a:1"]
POLICY = DesiredPolicy(
    "cartpole", 5, Scale(0, 4, 0.5, 0.25), Route({7: 9, 8: 1}, Shadow(9, 0.1)), None, {}, {7: "/7", 8: "/8", 9: "/9"}
)


def written() -> ApplicationConfig:
    return write_application(SETTINGS, GATEWAYS, POLICY)


def changed(change: Any) -> ApplicationConfig:  # noqa: ANN401 - any change of a dictionary
    found = copy.deepcopy(dict(written().json))
    change(found)
    return ApplicationConfig("cartpole", True, found)


def test_what_was_written_is_a_policy_and_covers_itself() -> None:
    assert written().is_policy
    assert covers(written(), written())
    assert not is_policy({"import_path": "somebody.elses:app"})
    assert not is_policy({})


def test_all_gateways_write_the_same_whatever_order_they_know_each_other_in() -> None:
    assert written() == write_application(SETTINGS, GATEWAYS[::-1], POLICY)


def test_what_ray_serve_adds_does_not_matter() -> None:
    def add(found: Any) -> None:  # noqa: ANN401 - any change of a dictionary
        found["runtime_env"] = {}
        found["deployments"][0]["autoscaling_config"]["smoothing_factor"] = 1.0

    assert covers(changed(add), written())


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
    assert not covers(changed(change), written())


def test_what_runs_can_be_read_back() -> None:
    assert read_running_policy(written()) == RunningPolicy(7, "/7", POLICY.scale)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["deployments"].clear(),
        lambda found: found.pop("deployments"),
        lambda found: found.update(deployments="oops"),
        lambda found: found["deployments"][0]["user_config"].update(versions={}),
        lambda found: found["deployments"][0]["user_config"].update(versions={"-1": "/x"}, default=-1),
        lambda found: found["deployments"][0]["user_config"].update(default=99),
        lambda found: found["deployments"][0].update(user_config=None),
        lambda found: found["deployments"][0].update(autoscaling_config=[]),
        lambda found: found["deployments"][0]["ray_actor_options"].update(num_cpus="many"),
    ],
)
def test_what_nobody_here_has_written_is_refused(change: Any) -> None:  # noqa: ANN401 - any change of a dictionary
    with pytest.raises(InvalidArgumentError, match="expected a config that Steersman has written"):
        read_running_policy(changed(change))


@given(
    scale=st.integers(0, 5).flatmap(
        lambda fewest: st.builds(
            Scale,
            st.just(fewest),
            st.integers(max(1, fewest), 10),
            st.sampled_from([0.0, 0.5, 2.0]),
            st.sampled_from([0.0, 0.25, 2.0]),
        )
    )
)
def test_ray_serve_takes_the_application_and_gives_it_back(scale: Scale) -> None:
    policy = DesiredPolicy("cartpole", 1, scale, Route({4: 1.0}), None, {}, {3: "/a", 4: "/b"})
    wanted = write_application(SETTINGS, ["127.0.0.1:1"], policy)
    ServeDeploySchema.model_validate({"applications": [dict(wanted.json)]})
    schema = ServeApplicationSchema.model_validate(dict(wanted.json))
    read_back = ApplicationConfig("cartpole", True, schema.model_dump(exclude_unset=True))
    assert covers(read_back, wanted)
    assert read_running_policy(read_back) == RunningPolicy(4, "/b", scale)
    deployment = read_back.json["deployments"][0]
    assert deployment["user_config"] == {"versions": {"3": "/a", "4": "/b"}, "default": 4, "revision": 1}
    assert "num_replicas" not in deployment


def test_the_defaults_of_the_autoscaler_and_of_the_settings_are_the_same() -> None:
    arguments = autoscaling_config(POLICY.scale, Settings())["policy"]["policy_kwargs"]
    assert AutoscalingSettings(**arguments) == AutoscalingSettings()
