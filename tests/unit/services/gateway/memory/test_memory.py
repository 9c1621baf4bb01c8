from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.memory.carried_state import CarriedState, StateSeal
from services.gateway.memory.memory import MAX_ID_BYTES, MAX_SESSIONS_IN_REQUEST, Memory
from services.gateway.memory.sessions import Session, SessionStore
from services.gateway.requests.request import Request
from services.gateway.requests.statistics import Statistics
from steersman.errors import FailedPreconditionError, InvalidArgumentError, ResourceExhaustedError
from steersman.v1 import policy_pb2
from tests.unit.services.gateway.totals import POLICY, act, total_of, version

SEAL = StateSeal(bytes(32))
VERSION = version()


def fresh_memory(idle_seconds: float = 10.0) -> Memory:
    return Memory(SEAL, SessionStore(max_sessions=100, idle_seconds=idle_seconds))


def joined(*totals: int) -> tuple[bytes, ...]:
    """Gives the state tensors of several episodes, each tensor with the elements of all of them."""
    return tuple(b"".join(elements) for elements in zip(*map(total_of, totals), strict=True))


def carried(*totals: int, number: int = 1) -> bytes:
    """Gives what a client carries of episodes of a version."""
    return SEAL.seal(POLICY, CarriedState(number, b"".join(joined(*totals))))


def answered(totals: list[int], session_ids: list[str], number: int = 1) -> Request:
    """Gives a request whose answer brought these states."""
    size = len(totals)
    entry = Request(
        policy=POLICY,
        statistics=Statistics(),
        inputs=(),
        size=size,
        batched=True,
        version=version(number),
        pinned=False,
        arrived=0.0,
        on_finished=lambda _: None,
        session_ids=session_ids,
    )
    entry.answer(0, size, [np.zeros(size, np.int64).tobytes(), *joined(*totals)], 1, 0.0)
    return entry


def states(memory: Memory, size: int, **request: object) -> tuple[bytes, ...]:
    """Gives the state tensors that a request is computed from."""
    message = act([0] * size, **request)  # type: ignore[arg-type]
    return memory.state(POLICY, memory.look_up(POLICY, message, 0.0), VERSION, size)


def test_an_episode_begins_with_zeros() -> None:
    assert states(fresh_memory(), 3) == joined(0, 0, 0)
    assert states(fresh_memory(), 2, session_ids=["left", "right"], episode_start=[True, True]) == joined(0, 0)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5))
def test_what_a_client_carries_is_what_the_next_step_starts_from(totals: list[int]) -> None:
    memory = fresh_memory()
    sealed = memory.remember(POLICY, answered(totals, []), 0.0)
    assert states(memory, len(totals), state=sealed) == joined(*totals)
    assert memory.look_up(POLICY, act([0] * len(totals), state=sealed), 0.0).version == 1


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5), st.randoms())
def test_what_the_gateway_keeps_is_what_the_next_step_starts_from(totals: list[int], order: object) -> None:
    memory = fresh_memory()
    ids = [f"session-{index}" for index in range(len(totals))]
    assert memory.remember(POLICY, answered(totals, ids), 0.0) == b""
    # In the next step they may come in any order.
    shuffled = list(zip(ids, totals, strict=True))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    found = states(memory, len(totals), session_ids=[session_id for session_id, _ in shuffled])
    assert found == joined(*[total for _, total in shuffled])


@given(st.lists(st.tuples(st.integers(1, 1000), st.booleans()), min_size=1, max_size=6))
def test_an_episode_may_begin_at_any_place_of_a_batch(elements: list[tuple[int, bool]]) -> None:
    totals, starts = [total for total, _ in elements], [begins for _, begins in elements]
    expected = joined(*[0 if begins else total for total, begins in elements])
    memory = fresh_memory()
    assert states(memory, len(totals), state=carried(*totals), episode_start=starts) == expected
    ids = [f"session-{index}" for index in range(len(totals))]
    memory.remember(POLICY, answered(totals, ids), 0.0)
    assert states(memory, len(totals), session_ids=ids, episode_start=starts) == expected


def test_a_state_of_another_size_is_refused() -> None:
    for held in (1, 3):
        with pytest.raises(InvalidArgumentError, match=r"expected the state of 2 observations \(40 bytes\), got"):
            states(fresh_memory(), 2, state=carried(*range(held)))


def test_an_episode_start_for_another_number_of_observations_is_refused() -> None:
    for starts in ([True], [True, False, False]):
        with pytest.raises(InvalidArgumentError, match="expected episode_start for 2 observations"):
            states(fresh_memory(), 2, state=carried(1, 2), episode_start=starts)
        with pytest.raises(InvalidArgumentError, match="expected episode_start for 2 observations"):
            states(fresh_memory(), 2, episode_start=starts)
        with pytest.raises(InvalidArgumentError, match="expected episode_start for each of 2 sessions"):
            states(fresh_memory(), 2, session_ids=["left", "right"], episode_start=starts)


def test_another_number_of_sessions_than_observations_is_refused() -> None:
    memory = fresh_memory()
    memory.remember(POLICY, answered([1, 2, 3], ["1", "2", "3"]), 0.0)
    for ids in (["1"], ["1", "2", "3"]):
        with pytest.raises(InvalidArgumentError, match=f"expected 2 session ids, got {len(ids)}"):
            states(memory, 2, session_ids=ids)


def test_both_a_state_and_sessions_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="either a state or session ids, got both"):
        states(fresh_memory(), 1, state=carried(1), session_ids=["left"], episode_start=[True])


def test_a_state_that_no_gateway_gave_is_refused_even_where_every_episode_begins() -> None:
    for starts in ((), [True]):
        with pytest.raises(InvalidArgumentError, match="no gateway of this installation gave"):
            states(fresh_memory(), 1, state=carried(1)[:-1], episode_start=starts)


def test_an_unknown_session_is_refused_and_never_starts_from_zeros() -> None:
    memory = fresh_memory()
    memory.remember(POLICY, answered([1], ["left"]), 0.0)
    for ids, starts in ((["right"], ()), (["left", "right"], ()), (["left", "right"], [True, False])):
        with pytest.raises(FailedPreconditionError, match="expected session 'right'"):
            states(memory, len(ids), session_ids=ids, episode_start=starts)


def test_an_expired_session_is_refused() -> None:
    memory = fresh_memory(idle_seconds=10.0)
    memory.remember(POLICY, answered([1], ["left"]), now=0.0)
    for now, is_known in ((10.0, True), (10.1, False)):
        episodes = memory.look_up(POLICY, act(0, session_ids=["left"]), now)
        if is_known:
            assert memory.state(POLICY, episodes, VERSION, 1) == total_of(1)
            continue
        with pytest.raises(FailedPreconditionError, match=r"expected session 'left' .* idle for over 10 s"):
            memory.state(POLICY, episodes, VERSION, 1)


def test_sessions_of_several_versions_are_refused_unless_only_one_goes_on() -> None:
    memory = fresh_memory()
    memory.remember(POLICY, answered([1], ["old"], number=1), 0.0)
    memory.remember(POLICY, answered([2], ["new"], number=2), 0.0)
    with pytest.raises(FailedPreconditionError, match=r"got versions \[1, 2\]"):
        memory.look_up(POLICY, act([0, 0], session_ids=["old", "new"]), 0.0)
    episodes = memory.look_up(POLICY, act([0, 0], session_ids=["old", "new"], episode_start=[False, True]), 0.0)
    assert episodes.version == 1
    assert episodes.sessions == [Session(1, total_of(1), 0.0), None]


def test_where_every_episode_begins_no_version_is_asked_for() -> None:
    memory = fresh_memory()
    memory.remember(POLICY, answered([1], ["left"]), 0.0)

    def version_of(message: policy_pb2.ActRequest) -> int | None:
        return memory.look_up(POLICY, message, 0.0).version

    assert version_of(act(0, session_ids=["left"], episode_start=[True])) is None
    assert version_of(act([0, 0], state=carried(1, 2), episode_start=[True, True])) is None
    assert version_of(act([0, 0], state=carried(1, 2), episode_start=[True, False])) == 1


@pytest.mark.parametrize("session_id", ["", "x" * (MAX_ID_BYTES + 1), "é" * (MAX_ID_BYTES // 2 + 1)])
def test_ids_that_are_empty_or_too_long_are_refused(session_id: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a session id of 1 to 128 bytes") as refused:
        states(fresh_memory(), 1, session_ids=[session_id], episode_start=[True])
    assert len(str(refused.value)) < 100, "however long it is, it is not quoted"
    states(fresh_memory(), 1, session_ids=["x" * MAX_ID_BYTES], episode_start=[True])


def test_an_id_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="once in a request"):
        states(fresh_memory(), 3, session_ids=["left", "right", "left"], episode_start=[True] * 3)


def test_more_ids_than_anybody_needs_are_refused_before_they_are_looked_at() -> None:
    ids = [str(number) for number in range(MAX_SESSIONS_IN_REQUEST + 1)]
    with pytest.raises(InvalidArgumentError, match="at most 65536 session ids"):
        states(fresh_memory(), 1, session_ids=ids)


class Beginning:
    """Sessions that begin at a memory with little room.

    Attributes:
        memory: The memory.
    """

    def __init__(self, max_sessions: int) -> None:
        self.memory = Memory(SEAL, SessionStore(max_sessions, idle_seconds=10.0))

    def begin(self, *ids: str, policy: str = POLICY) -> Callable[[], None]:
        """Has a request accepted that begins sessions, and gives what takes that back."""
        message = act([0] * len(ids), session_ids=ids, episode_start=[True] * len(ids))
        episodes = self.memory.look_up(policy, message, 0.0)
        self.memory.check_room(policy, episodes, VERSION, 0.0)
        give_back = self.memory.begin(policy, episodes, VERSION, 0.0)
        assert give_back is not None
        return give_back


def test_new_sessions_are_refused_where_there_is_no_room_and_known_ones_go_on() -> None:
    stage = Beginning(max_sessions=2)
    stage.begin("left")
    stage.memory.remember(POLICY, answered([7], ["left"]), 0.0)
    with pytest.raises(ResourceExhaustedError, match="room for 2 new sessions of policy 'totals', but there is room f"):
        stage.begin("right", "middle")
    stage.begin("right")
    with pytest.raises(ResourceExhaustedError):
        stage.begin("middle")
    assert states(stage.memory, 1, session_ids=["left"]) == total_of(7)
    stage.begin("left")
    stage.begin("left", policy="others")


def test_requests_that_begin_at_once_keep_to_the_limit_and_give_their_places_back() -> None:
    stage = Beginning(max_sessions=3)
    # None of them is answered before the last one comes.
    give_back = [stage.begin(session_id) for session_id in ("1", "2", "3")]
    with pytest.raises(ResourceExhaustedError):
        stage.begin("4")
    give_back[1]()
    stage.begin("4")


def test_an_episode_that_has_begun_does_not_go_on_from_the_one_before() -> None:
    stage = Beginning(max_sessions=3)
    stage.memory.remember(POLICY, answered([7], ["left"]), 0.0)
    give_back = stage.begin("left")
    for _ in range(2):
        with pytest.raises(FailedPreconditionError, match="expected session 'left'"):
            states(stage.memory, 1, session_ids=["left"])
        give_back()


def test_giving_back_leaves_what_came_after() -> None:
    stage = Beginning(max_sessions=3)
    give_back = stage.begin("left")
    stage.memory.remember(POLICY, answered([7], ["left"]), 0.0)
    give_back()
    assert states(stage.memory, 1, session_ids=["left"]) == total_of(7)


def counted(memory: Memory, step: int, total: int) -> None:
    """Has a step of session "left" answered that the client counts; its total grows by what it observed."""
    message = act(0, session_ids=["left"], episode_start=[step == 1], steps=[step])
    before = memory.state(POLICY, memory.look_up(POLICY, message, 0.0), VERSION, 1)
    entry = answered([total], ["left"])
    entry.inputs = (b"", *before)
    entry.steps = [step]
    memory.remember(POLICY, entry, 0.0)


def test_a_step_that_is_sent_again_starts_from_the_same_state() -> None:
    memory = fresh_memory()
    for step, total in ((1, 5), (2, 8)):
        counted(memory, step, total)
    for _ in range(2):
        assert states(memory, 1, session_ids=["left"], steps=[2]) == total_of(5)
        counted(memory, 2, 8)
    assert states(memory, 1, session_ids=["left"], steps=[3]) == total_of(8)
    assert states(memory, 1, session_ids=["left"], episode_start=[True], steps=[1]) == total_of(0)
    for step in (4, 2**64 - 1):
        with pytest.raises(FailedPreconditionError, match=f"expected step 3 of session 'left' .* got step {step}"):
            states(memory, 1, session_ids=["left"], steps=[step])


def test_an_answer_that_comes_late_does_not_take_an_episode_back() -> None:
    memory = fresh_memory()
    for step, total in ((1, 5), (2, 8), (3, 9)):
        counted(memory, step, total)
    late = answered([8], ["left"])
    late.inputs, late.steps = (b"", *total_of(5)), [2]
    memory.remember(POLICY, late, 0.0)
    assert states(memory, 1, session_ids=["left"], steps=[4]) == total_of(9)


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        (
            {"session_ids": ["left"], "episode_start": [True], "steps": [2]},
            "step 1 where an episode begins, got step 2",
        ),
        ({"session_ids": ["left"], "steps": [1]}, "a step above 1 where an episode goes on, got step 1"),
        ({"session_ids": ["left"], "steps": [0]}, "a step above 1 where an episode goes on, got step 0"),
        ({"session_ids": ["left"], "steps": [2, 3]}, "a step for each of 1 sessions, got 2"),
        ({"steps": [2]}, "numbers of steps only with session ids"),
    ],
)
def test_numbers_of_steps_that_make_no_sense_are_refused(request_of: dict[str, list[object]], words: str) -> None:
    memory = fresh_memory()
    memory.remember(POLICY, answered([1], ["left"]), 0.0)
    with pytest.raises(InvalidArgumentError, match=words):
        states(memory, 1, **request_of)
