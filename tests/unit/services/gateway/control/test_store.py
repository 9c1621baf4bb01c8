"""The store on real databases, from several threads and processes; `tests.databases` says which."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from services.gateway.control.database import Database
from services.gateway.control.desired import Change, DesiredPolicy, RunningPolicy
from services.gateway.control.rows import MAX_ROUTES
from services.gateway.control.scaling import Scale
from services.gateway.control.store import Store
from services.gateway.dispatch.routes import Route, Shadow
from steersman.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from tests.databases import database_url, postgres_only, sqlite_only

ONE = Scale(1, 1, 0.5, 0.0)
CHANGE = Change("a test", "cartpole")


def open_store(folder: Path) -> Store:
    database = Database(database_url(folder))
    database.migrate()
    return Store(database)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def deploy(store: Store, version: int = 1, change: Change = CHANGE) -> DesiredPolicy:
    return store.deploy(change, Route({version: 1.0}), lambda _: ONE, {version: f"/bundles/{version}"})


def test_what_is_wanted_is_found_again_by_others(store: Store, tmp_path: Path) -> None:
    assert store.state().policies == {}
    deploy(store)
    route = Route({1: 9.0, 2: 1.0}, Shadow(3, 0.5, 0.1))
    changed = store.set_route(CHANGE, route, {2: "/bundles/2", 3: "/bundles/3"})
    found = open_store(tmp_path).state()
    assert found.policies == {"cartpole": changed}
    assert found.revision == changed.revision == store.revision() == 2
    assert changed.route == route
    assert changed.before == Route({1: 1.0})
    assert changed.uris == {1: "/bundles/1", 2: "/bundles/2", 3: "/bundles/3"}


def test_replicas_are_kept_or_changed_by_what_there_is(store: Store) -> None:
    seen: list[Scale | None] = []

    def resize(kept: Scale | None) -> Scale:
        seen.append(kept)
        return Scale(0, 4, 0.25, 0.5) if kept else ONE

    for _ in range(2):
        policy = store.deploy(CHANGE, Route({1: 1.0}), resize, {1: "/bundles/1"})
    assert seen == [None, ONE]
    assert policy.scale == Scale(0, 4, 0.25, 0.5)
    assert policy.before is None, "the route is the same as before"


def test_replicas_hold_what_somebody_may_still_need(store: Store) -> None:
    deploy(store, 1)
    store.set_alias(CHANGE, "stable", 1, {})
    assert set(deploy(store, 2).uris) == {1, 2}
    assert set(deploy(store, 3).uris) == {1, 2, 3}
    store.set_alias(CHANGE, "stable", 0, {})
    assert set(deploy(store, 4).uris) == {3, 4}
    assert set(store.uris("cartpole")) == {1, 2, 3, 4}
    back = store.rollback(CHANGE)
    assert back.route == Route({3: 1.0})
    assert set(back.uris) == {3, 4}, "episodes of version 4 go on"


def test_what_could_not_be_loaded_is_not_held_for_anybody(store: Store) -> None:
    deploy(store, 1)
    deploy(store, 2)
    serving = frozenset({1})
    assert set(deploy(store, 3, Change("a test", "cartpole", serving=serving)).uris) == {1, 3}


def test_promotion_moves_alias_and_route_at_once_and_rollback_only_the_route(store: Store) -> None:
    deploy(store)
    store.set_alias(CHANGE, "candidate", 2, {2: "/bundles/2"})
    promoted = store.promote(CHANGE, "champion", 0, "candidate", {})
    assert (promoted.route, promoted.aliases) == (Route({2: 1.0}), {"candidate": 2, "champion": 2})
    back = store.rollback(CHANGE)
    assert (back.route, back.aliases) == (Route({1: 1.0}), {"candidate": 2, "champion": 2})
    with pytest.raises(FailedPreconditionError, match="expected a route to go back to"):
        store.rollback(CHANGE)


def test_old_routes_are_forgotten(store: Store) -> None:
    deploy(store)
    for weight in range(1, MAX_ROUTES + 10):
        store.set_route(CHANGE, Route({1: 1.0, 2: float(weight)}), {2: "/bundles/2"})
    for _ in range(MAX_ROUTES - 1):
        store.rollback(CHANGE)
    with pytest.raises(FailedPreconditionError):
        store.rollback(CHANGE)


def test_what_is_unknown_is_not_found_and_leaves_no_trace(store: Store) -> None:
    with pytest.raises(NotFoundError, match="expected a deployed policy, got 'cartpole'"):
        store.rollback(CHANGE)
    deploy(store)
    before = store.state()
    with pytest.raises(NotFoundError, match="a version that policy 'cartpole' has had, got 7"):
        store.set_route(CHANGE, Route({1: 1.0, 7: 1.0}), {})
    with pytest.raises(NotFoundError, match="an alias of policy 'cartpole', got 'nobody'"):
        store.promote(CHANGE, "champion", 0, "nobody", {})
    with pytest.raises(NotFoundError, match="an alias of policy 'cartpole', got 'nobody'"):
        store.set_alias(CHANGE, "nobody", 0, {})
    assert store.state() == before
    assert len(store.audit("", 10)) == 1


def test_every_change_is_in_the_audit_trail(store: Store) -> None:
    deploy(store)
    store.set_route(Change("ann", "cartpole"), Route({2: 1.0}), {2: "/bundles/2"})
    store.undeploy(Change("bob", "cartpole"))
    deploy(store, change=Change("cy", "pong"))
    records = store.audit("cartpole", 10)
    assert [(record.action, record.actor) for record in records] == [
        ("undeploy", "bob"),
        ("set_route", "ann"),
        ("deploy", "a test"),
    ]
    assert json.loads(records[1].before)["route"] == {"weights": {"1": 1.0}}
    assert json.loads(records[1].after)["route"] == {"weights": {"2": 1.0}}
    assert (records[2].before, records[0].after) == ("", "")
    assert records[0].time.tzinfo is not None
    assert [record.policy for record in store.audit("", 1)] == ["pong"]


def test_the_audit_trail_says_why(store: Store) -> None:
    deploy(store)
    store.promote(Change("a gate", "cartpole", reason="better by +3"), "champion", 1, "", {})
    assert [(record.action, record.reason) for record in store.audit("", 10)] == [
        ("promote", "better by +3"),
        ("deploy", ""),
    ]


def test_a_change_based_on_what_has_changed_is_aborted(store: Store) -> None:
    seen = deploy(store).revision
    store.set_route(CHANGE, Route({2: 1.0}), {2: "/bundles/2"})
    with pytest.raises(AbortedError, match=f"at revision {seen}, but it is at {seen + 1}"):
        store.rollback(Change("late", "cartpole", seen))
    store.undeploy(CHANGE)
    with pytest.raises(AbortedError, match="not deployed any more"):
        deploy(store, change=Change("late", "cartpole", seen))
    assert deploy(store).revision > seen, "also a policy that begins anew has a revision that nobody has seen"


REQUEST = Change("a test", "cartpole", request_id="request-1", fingerprint="first")


def test_a_request_that_is_sent_again_changes_nothing_and_gets_what_the_first_made(store: Store) -> None:
    deploy(store)
    store.set_route(CHANGE, Route({2: 1.0}), {2: "/bundles/2"})
    assert store.outcome(REQUEST) is None
    first = store.rollback(REQUEST)
    assert first.route == Route({1: 1.0})
    # Somebody else goes on meanwhile.
    store.promote(CHANGE, "champion", 2, "", {})
    before = store.state()
    again = store.rollback(REQUEST)
    assert (again.route, again.revision, again.aliases, again.scale) == (first.route, first.revision, {}, ONE)
    assert again.uris == {1: "/bundles/1"}
    known = store.outcome(REQUEST)
    assert known is not None
    assert known.policy == again
    assert store.state() == before
    assert [(record.action, record.request_id) for record in store.audit("cartpole", 2)] == [
        ("promote", ""),
        ("rollback", "request-1"),
    ]


def test_what_the_request_itself_has_changed_is_no_reason_to_abort_it(store: Store) -> None:
    seen = deploy(store).revision
    request = Change("a test", "cartpole", seen, request_id="request-1", fingerprint="first")
    first = store.set_route(request, Route({2: 1.0}), {2: "/bundles/2"})
    again = store.set_route(request, Route({2: 1.0}), {2: "/bundles/2"})
    assert (again.route, again.revision) == (first.route, first.revision)


def test_a_request_of_an_undeployed_policy_is_still_known(store: Store) -> None:
    deploy(store, change=REQUEST)
    gone = Change("a test", "cartpole", request_id="request-2", fingerprint="undeploy")
    store.undeploy(gone)
    store.undeploy(gone)
    assert deploy(store, change=REQUEST).revision == 1
    assert store.state().policies == {}
    deploy(store)
    store.undeploy(gone)
    assert set(store.state().policies) == {"cartpole"}


def test_a_request_that_was_refused_may_be_sent_again(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.rollback(REQUEST)
    deploy(store)
    store.set_route(CHANGE, Route({2: 1.0}), {2: "/bundles/2"})
    assert store.rollback(REQUEST).route == Route({1: 1.0})


def test_an_id_that_another_request_has_is_refused(store: Store) -> None:
    deploy(store, change=REQUEST)
    before = store.state()
    other = Change("a test", "cartpole", request_id="request-1", fingerprint="second")
    with pytest.raises(InvalidArgumentError, match="'request-1', which a deploy of revision 1 had"):
        store.rollback(other)
    with pytest.raises(InvalidArgumentError, match="'request-1'"):
        store.outcome(other)
    assert store.state() == before
    # Of another policy it is another one.
    deploy(store, change=Change("a test", "pong", request_id="request-1", fingerprint="second"))


def test_of_one_request_many_times_at_once_one_acts(store: Store, tmp_path: Path) -> None:
    deploy(store)
    for version in range(2, 8):
        store.set_route(CHANGE, Route({version: 1.0}), {version: f"/bundles/{version}"})
    stores = [open_store(tmp_path) for _ in range(6)]
    together = threading.Barrier(len(stores))

    def roll_back(index: int) -> int:
        together.wait()
        return stores[index].rollback(REQUEST).revision

    with ThreadPoolExecutor(len(stores)) as pool:
        assert len(set(pool.map(roll_back, range(len(stores))))) == 1
    assert store.state().policies["cartpole"].route == Route({6: 1.0})


def test_of_two_changes_at_once_one_is_aborted(store: Store, tmp_path: Path) -> None:
    threads, rounds = 4, 5
    stores = [open_store(tmp_path) for _ in range(threads)]
    deploy(store)
    for _ in range(rounds):
        seen = store.state().policies["cartpole"].revision
        together = threading.Barrier(threads)

        def change(index: int, seen: int = seen, together: threading.Barrier = together) -> bool:
            together.wait()
            route = Route({1: 1.0, 2: float(seen * threads + index + 1)})
            try:
                stores[index].set_route(Change(str(index), "cartpole", seen), route, {2: "/bundles/2"})
            except AbortedError:
                return False
            return True

        with ThreadPoolExecutor(threads) as pool:
            assert sum(pool.map(change, range(threads))) == 1
    assert len(store.audit("", 100)) == 1 + rounds


def test_without_an_expected_revision_no_change_is_lost(store: Store, tmp_path: Path) -> None:
    deploy(store)
    names = [f"alias-{index}" for index in range(8)]
    stores = [open_store(tmp_path) for _ in names]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda pair: pair[0].set_alias(CHANGE, pair[1], 1, {}), zip(stores, names, strict=True)))
    assert set(store.state().policies["cartpole"].aliases) == set(names)
    assert store.revision() == 1 + len(names)


_WRITER = """
import sys, itertools
from pathlib import Path
from tests.unit.services.gateway.control.test_store import CHANGE, open_store
from services.gateway.dispatch.routes import Route
store = open_store(Path(sys.argv[1]))
for index in itertools.count(1):
    # Route and alias change together or not at all.
    store.promote(CHANGE, "champion", 1 + index % 2, "", {2: "/bundles/2"})
    print(index, flush=True)
"""


def test_a_writer_killed_at_any_point_leaves_whole_changes(store: Store, tmp_path: Path) -> None:
    deploy(store)
    for delay in (0.0, 0.001, 0.003, 0.004, 0.007):
        command = [sys.executable, "-c", _WRITER, str(tmp_path)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        )
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline()
        time.sleep(delay)  # not for something to happen, but to hit it at different points
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = open_store(tmp_path).state()
        policy = found.policies["cartpole"]
        assert policy.route == Route({policy.aliases["champion"]: 1.0})
        latest = store.audit("", 1)[0]
        assert latest.revision == policy.revision == found.revision
        assert json.loads(latest.after)["aliases"] == dict(policy.aliases)
    assert deploy(store).revision == found.revision + 1, "no lock is left behind"


@sqlite_only
def test_while_the_database_is_locked_reading_goes_on_and_writing_waits(store: Store, tmp_path: Path) -> None:
    deploy(store)
    lock = sqlite3.connect(tmp_path / "steersman.db", isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    unlocking = threading.Timer(0.5, lambda: lock.execute("ROLLBACK"))
    unlocking.start()
    assert store.revision() == 1
    assert deploy(store, 2).revision == 2
    unlocking.join()


@sqlite_only
def test_a_database_that_stays_locked_is_unavailable(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "steersman.db", isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="database is locked"):
            deploy(store)
        lock.execute("ROLLBACK")


@postgres_only
def test_a_server_whose_table_stays_locked_is_unavailable(store: Store, tmp_path: Path) -> None:
    with create_engine(database_url(tmp_path)).begin() as lock:
        lock.execute(text("LOCK TABLE state IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(UnavailableError, match="lock timeout"):
            store.revision()
        with pytest.raises(UnavailableError, match="lock timeout"):
            deploy(store)
    assert deploy(store).revision == 1


def test_a_lease_has_one_holder_until_it_expires_or_is_released(store: Store) -> None:
    assert store.leases.acquire("work", "ann", 60)
    assert store.leases.acquire("work", "ann", 60)
    assert not store.leases.acquire("work", "bob", 60)
    store.leases.release("work", "bob")
    assert not store.leases.acquire("work", "bob", 60)
    store.leases.release("work", "ann")
    assert store.leases.acquire("work", "bob", 0.01)
    deadline = time.monotonic() + 5
    while not store.leases.acquire("work", "ann", 60):
        assert time.monotonic() < deadline


def test_of_many_that_want_a_new_lease_at_once_one_gets_it(store: Store, tmp_path: Path) -> None:
    holders = [f"holder-{index}" for index in range(4)]
    stores = [open_store(tmp_path) for _ in holders]
    for name in ("first", "second", "third"):
        together = threading.Barrier(len(holders))

        def acquire(index: int, name: str = name, together: threading.Barrier = together) -> bool:
            together.wait()
            return stores[index].leases.acquire(name, holders[index], 60)

        with ThreadPoolExecutor(len(holders)) as pool:
            assert sum(pool.map(acquire, range(len(holders)))) == 1
        assert sum(store.leases.acquire(name, holder, 60) for holder in holders) == 1


def test_what_is_read_is_one_state_while_others_write(store: Store, tmp_path: Path) -> None:
    store.deploy(CHANGE, Route({1: 1.0}), lambda _: ONE, {1: "/bundles/1", 2: "/bundles/2"})
    other = open_store(tmp_path)

    def write() -> None:
        for index in range(60):
            # Route and alias change together or not at all.
            other.promote(CHANGE, "champion", 1 + index % 2, "", {2: "/bundles/2"})

    store.promote(CHANGE, "champion", 2, "", {2: "/bundles/2"})
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not writing.done():
            found = store.state()
            policy = found.policies["cartpole"]
            assert policy.route == Route({policy.aliases["champion"]: 1.0})
            assert policy.revision == found.revision
        writing.result()


def test_what_ran_before_is_adopted_once(store: Store) -> None:
    deploy(store, 2, Change("a test", "pong"))
    assert not store.adopted()
    store.adopt({"cartpole": RunningPolicy(3, "/bundles/3", ONE), "pong": RunningPolicy(1, "/bundles/1", ONE)})
    assert store.adopted()
    policies = store.state().policies
    assert policies["cartpole"].uris == {3: "/bundles/3"}
    assert policies["pong"].route == Route({2: 1.0}), "what is wanted counts more than what runs"
