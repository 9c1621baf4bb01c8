from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.gateway.memory.sessions import Session, SessionStore

POLICY = "cartpole"


def test_a_session_is_found_again_until_it_is_forgotten() -> None:
    store = SessionStore(max_sessions=2, idle_seconds=10.0)
    left, right = Session(3, (b"1234",), 0.0), Session(3, (b"5678",), 0.0)
    store.keep(POLICY, "left", left)
    store.keep(POLICY, "right", right)
    assert store.find(POLICY, ["right", "middle", "left"], 1.0) == [right, None, left]
    store.forget(POLICY, "left")
    store.forget(POLICY, "middle")
    assert store.find(POLICY, ["right", "left"], 1.0) == [right, None]


def test_the_same_id_of_another_policy_is_another_session() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    store.keep(POLICY, "left", Session(1, (b"1",), 0.0))
    assert store.find("pendulum", ["left"], 0.0) == [None]


def test_the_sessions_of_one_policy_take_no_room_from_another() -> None:
    store = SessionStore(max_sessions=2, idle_seconds=10.0)
    for session_id in ("1", "2"):
        store.keep(POLICY, session_id, Session(1, (b"1",), 0.0))
    assert (store.room(POLICY, 1.0), store.room("pendulum", 1.0)) == (0, 2)


def test_a_session_expires_when_it_is_idle_for_too_long_and_not_before() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    session = Session(1, (b"1",), 0.0)
    store.keep(POLICY, "left", session)
    assert store.find(POLICY, ["left"], 10.0) == [session]
    assert store.find(POLICY, ["left"], 10.5) == [None]
    assert len(store) == 1, "looking changes nothing"
    store.expire(10.5)
    assert len(store) == 0


def test_a_step_keeps_a_session_from_expiring() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    store.keep(POLICY, "left", Session(1, (b"1",), 0.0))
    store.keep(POLICY, "right", Session(1, (b"2",), 1.0))
    store.keep(POLICY, "left", Session(1, (b"3",), 8.0))
    store.expire(15.0)
    assert store.find(POLICY, ["left", "right"], 15.0) == [Session(1, (b"3",), 8.0), None]


def test_expired_sessions_make_room() -> None:
    store = SessionStore(max_sessions=1, idle_seconds=10.0)
    store.keep(POLICY, "left", Session(1, (), 0.0))
    assert store.room(POLICY, 10.0) == 0
    assert store.room(POLICY, 10.5) == 1


def test_where_there_is_no_room_only_known_sessions_are_kept_on() -> None:
    store = SessionStore(max_sessions=1, idle_seconds=10.0)
    for session_id, version in (("left", 1), ("right", 1), ("left", 2)):
        store.keep_if_room(POLICY, session_id, Session(version, (), 0.0))
    assert store.find(POLICY, ["left", "right"], 0.0) == [Session(2, (), 0.0), None]


def test_only_the_session_that_is_meant_is_forgotten() -> None:
    store = SessionStore(max_sessions=9, idle_seconds=10.0)
    first, second = Session(1, (b"1",), 0.0), Session(1, (b"1",), 0.0)
    store.keep(POLICY, "left", second)
    store.forget(POLICY, "left", only=first)
    assert store.find(POLICY, ["left"], 0.0) == [second]
    store.forget(POLICY, "left", only=second)
    assert store.find(POLICY, ["left"], 0.0) == [None]


class AgainstADictionary(RuleBasedStateMachine):
    """The store gives what a plain dictionary with the same rules would give, in every order of events."""

    MAX_SESSIONS, IDLE_SECONDS = 3, 10.0

    def __init__(self) -> None:
        super().__init__()
        self.store = SessionStore(self.MAX_SESSIONS, self.IDLE_SECONDS)
        self.known: dict[tuple[str, str], Session] = {}
        self.now = 0.0
        self.steps = 0

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(policy=st.sampled_from("xy"), session_id=st.sampled_from("abcde"))
    def step(self, policy: str, session_id: str) -> None:
        self._expire()
        self.steps += 1
        room = self.MAX_SESSIONS - sum(name == policy for name, _ in self.known)
        assert self.store.room(policy, self.now) == room
        if (policy, session_id) in self.known or room > 0:
            session = self.known[policy, session_id] = Session(1, (str(self.steps).encode(),), self.now)
            self.store.keep_if_room(policy, session_id, session)

    @rule(policy=st.sampled_from("xy"), session_id=st.sampled_from("abcde"))
    def forget(self, policy: str, session_id: str) -> None:
        self.known.pop((policy, session_id), None)
        self.store.forget(policy, session_id)

    @invariant()
    def the_same_is_found(self) -> None:
        self._expire()
        for policy in "xy":
            expected = [self.known.get((policy, session_id)) for session_id in "abcde"]
            assert self.store.find(policy, list("abcde"), self.now) == expected
        # Expired ones may still be there: they go when somebody takes a step, or the gateway looks.
        assert len(self.store) <= 2 * self.MAX_SESSIONS

    def _expire(self) -> None:
        self.known = {
            key: session for key, session in self.known.items() if session.used >= self.now - self.IDLE_SECONDS
        }


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
