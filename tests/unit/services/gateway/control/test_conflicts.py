from services.gateway.control.conflicts import find_conflicts
from services.gateway.control.ray_serve.applications import Application, ApplicationConfig, State

OURS = ApplicationConfig("cartpole", True, {})
THEIRS = ApplicationConfig("shop", False, {})


def conflicts(*applications: Application) -> dict[str, str]:
    return find_conflicts(["cartpole", "pong"], {found.name: found for found in applications})


def test_what_is_ours_or_elsewhere_is_in_nobodys_way() -> None:
    ours = Application("cartpole", State.RUNNING, "/cartpole", config=OURS)
    assert conflicts(ours, Application("shop", State.RUNNING, "/shop", config=THEIRS)) == {}
    # Ray Serve gives a request to the longest prefix, so that one that has "/" goes on with all that is not a policy's.
    assert conflicts(Application("default", State.RUNNING, "/", config=THEIRS)) == {}
    assert conflicts(Application("silent", State.RUNNING, "", config=THEIRS)) == {}


def test_a_name_and_a_route_of_others_are_kept_for_them() -> None:
    for declared in (True, False):
        config = THEIRS if declared else None
        named = conflicts(Application("cartpole", State.RUNNING, "/elsewhere", declared, config))
        assert list(named) == ["cartpole"]
        assert "expected the name 'cartpole' to be free on Ray Serve" in named["cartpole"]
        routed = conflicts(Application("shop", State.FAILED, "/pong", declared, config))
        assert list(routed) == ["pong"]
        assert "the route /pong to be free" in routed["pong"]
        assert "application 'shop', which is not Steersman's" in routed["pong"]


def test_what_is_being_deleted_is_in_nobodys_way() -> None:
    assert conflicts(Application("cartpole", State.DELETING, "/cartpole", config=THEIRS)) == {}
