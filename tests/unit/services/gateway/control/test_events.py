from services.gateway.control.events import EventLog
from steersman.v1 import deployment_pb2

READY = deployment_pb2.DEPLOYMENT_STATE_READY


def deployment(wanted: int = 1, ready: int = 1, version: int = 7) -> deployment_pb2.Deployment:
    return deployment_pb2.Deployment(
        policy="cartpole",
        state=READY,
        replicas_wanted=wanted,
        replicas_ready=ready,
        route=deployment_pb2.Route(weights=[deployment_pb2.RouteWeight(version=version, weight=1)]),
    )


def texts(log: EventLog, since: int = 0) -> list[str]:
    return [event.text for event in log.since(since)]


def test_what_changes_between_two_looks_is_an_event() -> None:
    log = EventLog()
    log.update([deployment()])
    log.update([deployment()])
    assert texts(log) == ["deployed"]
    before = log.newest
    log.update([deployment(wanted=2)])
    log.update([deployment(wanted=2, ready=2, version=8)])
    assert texts(log, before) == [
        "2 replicas wanted instead of 1",
        "2 replicas ready instead of 1",
        "traffic goes to 8=1",
    ]
    assert {event.policy for event in log.since(0)} == {"cartpole"}
    log.update([])
    assert texts(log, log.newest - 1) == ["undeployed"]


def test_there_is_nothing_since_the_newest() -> None:
    log = EventLog()
    log.update([deployment()])
    assert log.since(log.newest) == []


def test_only_the_latest_are_kept() -> None:
    log = EventLog()
    for count in range(3000):
        log.update([deployment(wanted=count)])
    kept = log.since(0)
    assert len(kept) == 1000
    assert kept[-1].text.startswith("2999 ")
