import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.memory.carried_state import CarriedState, StateSeal
from services.gateway.memory.memory import Memory
from services.gateway.memory.sessions import Session, SessionStore
from services.gateway.requests.request import Request
from services.gateway.requests.statistics import Statistics
from steersman.errors import FailedPreconditionError, InvalidArgumentError
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
    entry = Request(POLICY, Statistics(), (), size, True, version(number), False, 0.0, lambda _: None)
    entry.session_ids = session_ids
    entry.answer(0, size, [np.zeros(size, np.int64).tobytes(), *joined(*totals)], 1)
    return entry


def states(memory: Memory, size: int, **request: object) -> tuple[bytes, ...]:
    """Gives the state tensors that a request is computed from."""
    message = act([0] * size, **request)  # type: ignore[arg-type]
    return memory.state(memory.recall(POLICY, message, 0.0), VERSION, size, message.episode_start)


def test_an_episode_begins_with_zeros() -> None:
    assert states(fresh_memory(), 3) == joined(0, 0, 0)
    assert states(fresh_memory(), 2, session_ids=["left", "right"], episode_start=[True, True]) == joined(0, 0)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5))
def test_what_a_client_carries_is_what_the_next_step_starts_from(totals: list[int]) -> None:
    memory = fresh_memory()
    sealed = memory.remember(POLICY, answered(totals, []), 0.0)
    assert states(memory, len(totals), state=sealed) == joined(*totals)
    assert memory.recall(POLICY, act([0] * len(totals), state=sealed), 0.0).version == 1


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
    memory.recall(POLICY, act(0, session_ids=["left"]), now=10.0)
    with pytest.raises(FailedPreconditionError, match="expected session 'left'"):
        memory.recall(POLICY, act(0, session_ids=["left"]), now=10.1)


def test_sessions_of_several_versions_are_refused_unless_only_one_goes_on() -> None:
    memory = fresh_memory()
    memory.remember(POLICY, answered([1], ["old"], number=1), 0.0)
    memory.remember(POLICY, answered([2], ["new"], number=2), 0.0)
    with pytest.raises(FailedPreconditionError, match=r"got versions \[1, 2\]"):
        memory.recall(POLICY, act([0, 0], session_ids=["old", "new"]), 0.0)
    recollection = memory.recall(POLICY, act([0, 0], session_ids=["old", "new"], episode_start=[False, True]), 0.0)
    assert recollection.version == 1
    assert recollection.sessions == [Session(1, total_of(1), 0.0), None]


def test_where_every_episode_begins_no_version_is_asked_for() -> None:
    memory = fresh_memory()
    memory.remember(POLICY, answered([1], ["left"]), 0.0)
    assert memory.recall(POLICY, act(0, session_ids=["left"], episode_start=[True]), 0.0).version is None
    assert memory.recall(POLICY, act([0, 0], state=carried(1, 2), episode_start=[True, True]), 0.0).version is None
    assert memory.recall(POLICY, act([0, 0], state=carried(1, 2), episode_start=[True, False]), 0.0).version == 1
