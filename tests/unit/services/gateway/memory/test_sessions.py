import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.gateway.memory.sessions import MAX_ID_BYTES, Session, SessionStore
from steersman.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError

POLICY = "cartpole"


def begin(store: SessionStore, session_id: str, now: float = 0.0, policy: str = POLICY) -> None:
    """Takes the first step of a session and has it answered; its state says whose it is."""
    store.recall(policy, [session_id], [True], now)
    store.keep(policy, session_id, Session(1, (f"{policy}/{session_id}".encode(),), now))


def test_a_session_is_found_again_with_its_state() -> None:
    store = SessionStore(max_sessions=2, idle_seconds=10.0)
    assert store.recall(POLICY, ["left", "right"], [True, True], 0.0) == [None, None]
    left, right = Session(3, (b"1234",), 0.0), Session(3, (b"5678",), 0.0)
    store.keep(POLICY, "left", left)
    store.keep(POLICY, "right", right)
    assert store.recall(POLICY, ["right", "left"], [False, False], 1.0) == [right, left]


def test_each_element_begins_or_goes_on_by_itself() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    for session_id in ("left", "right"):
        begin(store, session_id)
    left, right = store.recall(POLICY, ["left", "right"], [True, False], 1.0)
    assert left is None
    assert right == Session(1, (b"cartpole/right",), 0.0)


def test_the_same_id_of_another_policy_is_another_session() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    begin(store, "left")
    with pytest.raises(FailedPreconditionError):
        store.recall("pendulum", ["left"], [False], 0.0)


def test_an_unknown_session_is_refused() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    begin(store, "left")
    with pytest.raises(FailedPreconditionError, match="expected session 'right' of policy 'cartpole' to be known"):
        store.recall(POLICY, ["left", "right"], [False, False], 0.0)


def test_a_session_whose_first_step_was_never_answered_is_refused() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    store.recall(POLICY, ["left"], [True], 0.0)
    with pytest.raises(FailedPreconditionError):
        store.recall(POLICY, ["left"], [False], 0.0)


def test_an_episode_that_has_begun_does_not_go_on_from_the_one_before() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    begin(store, "left")
    store.recall(POLICY, ["left"], [True], 1.0)
    with pytest.raises(FailedPreconditionError):
        store.recall(POLICY, ["left"], [False], 1.0)


def test_a_session_expires_when_it_is_idle_for_too_long_and_not_before() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    begin(store, "left", now=0.0)
    begin(store, "right", now=5.0)
    assert store.recall(POLICY, ["left"], [False], 10.0) != [None]
    with pytest.raises(FailedPreconditionError, match="idle for over 10 s"):
        store.recall(POLICY, ["left"], [False], 10.5)
    assert len(store) == 1
    assert store.recall(POLICY, ["right"], [False], 10.5) != [None]


def test_a_step_keeps_a_session_from_expiring() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    begin(store, "left", now=0.0)
    begin(store, "right", now=1.0)
    store.keep(POLICY, "left", Session(1, (b"later",), 8.0))
    assert store.recall(POLICY, ["left"], [False], 15.0) == [Session(1, (b"later",), 8.0)]
    assert len(store) == 1, "the other one, though it began later, has expired"


@pytest.mark.parametrize("session_id", ["", "x" * (MAX_ID_BYTES + 1), "é" * (MAX_ID_BYTES // 2 + 1)])
def test_ids_that_are_empty_or_too_long_are_refused(session_id: str) -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    with pytest.raises(InvalidArgumentError, match="expected a session id of 1 to 128 bytes"):
        store.recall(POLICY, [session_id], [True], 0.0)
    store.recall(POLICY, ["x" * MAX_ID_BYTES], [True], 0.0)


def test_an_id_that_is_there_twice_is_refused() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    with pytest.raises(InvalidArgumentError, match="once in a request"):
        store.recall(POLICY, ["left", "right", "left"], [True, True, True], 0.0)


def test_new_sessions_are_refused_where_there_is_no_room_and_known_ones_go_on() -> None:
    store = SessionStore(max_sessions=2, idle_seconds=10.0)
    begin(store, "left")
    with pytest.raises(ResourceExhaustedError, match="room for 2 new sessions, but 1 of 2 are kept"):
        store.recall(POLICY, ["right", "middle"], [True, True], 0.0)
    begin(store, "right")
    with pytest.raises(ResourceExhaustedError):
        store.recall(POLICY, ["middle"], [True], 0.0)
    assert None not in store.recall(POLICY, ["left", "right"], [False, False], 1.0)
    assert store.recall(POLICY, ["left"], [True], 2.0) == [None], "to begin anew needs no more room"


def test_requests_that_begin_at_once_keep_to_the_limit() -> None:
    store = SessionStore(max_sessions=3, idle_seconds=10.0)
    # None of them is answered before the last one comes.
    for session_id in ("1", "2", "3"):
        store.recall(POLICY, [session_id], [True], 0.0)
    with pytest.raises(ResourceExhaustedError):
        store.recall(POLICY, ["4"], [True], 0.0)


def test_expired_sessions_make_room() -> None:
    store = SessionStore(max_sessions=1, idle_seconds=10.0)
    begin(store, "left", now=0.0)
    begin(store, "right", now=10.5)
    assert len(store) == 1


class AgainstADictionary(RuleBasedStateMachine):
    """The store gives what a plain dictionary with the same rules would give, in every order of events."""

    MAX_SESSIONS, IDLE_SECONDS = 3, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.store = SessionStore(self.MAX_SESSIONS, self.IDLE_SECONDS)
        self.known: dict[str, Session] = {}
        self.now = 0.0
        self.steps = 0

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(step=st.dictionaries(st.sampled_from("abcde"), st.booleans(), min_size=1, max_size=3), answered=st.booleans())
    def step(self, step: dict[str, bool], answered: bool) -> None:
        fresh = {key for key, session in self.known.items() if session.used >= self.now - self.IDLE_SECONDS}
        self.known = {key: session for key, session in self.known.items() if key in fresh}
        ids, starts = list(step), list(step.values())
        try:
            found = self.store.recall(POLICY, ids, starts, self.now)
        except FailedPreconditionError:
            assert any(not begins and not self._state(key) for key, begins in step.items())
            return
        except ResourceExhaustedError:
            assert len({*self.known, *ids}) > self.MAX_SESSIONS
            return
        assert found == [None if begins else self.known[key] for key, begins in step.items()]
        assert len({*self.known, *ids}) <= self.MAX_SESSIONS
        for key, begins in step.items():
            if begins:
                self.known[key] = Session(0, (), self.now)
            if answered:
                self.steps += 1
                self.known[key] = Session(1, (str(self.steps).encode(),), self.now)
                self.store.keep(POLICY, key, self.known[key])

    def _state(self, key: str) -> tuple[bytes, ...]:
        return self.known[key].state if key in self.known else ()

    @invariant()
    def as_many_are_kept(self) -> None:
        # Expired ones may still be there: they go when somebody asks.
        assert len(self.store) <= self.MAX_SESSIONS


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
