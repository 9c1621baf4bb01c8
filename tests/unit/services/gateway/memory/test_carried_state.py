import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.gateway.memory.carried_state import CarriedState, StateSeal
from steersman.errors import InvalidArgumentError

SEAL = StateSeal(bytes(range(32)))
STATES = st.builds(CarriedState, st.integers(0, 2**63 - 1), st.binary(max_size=200))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(NAMES, STATES)
def test_what_was_sealed_can_be_opened(policy: str, state: CarriedState) -> None:
    assert SEAL.open(policy, SEAL.seal(policy, state)) == state


@given(STATES, st.data())
def test_a_flipped_bit_is_refused(state: CarriedState, data: st.DataObject) -> None:
    sealed = bytearray(SEAL.seal("cartpole", state))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidArgumentError, match="no gateway of this installation gave"):
        SEAL.open("cartpole", bytes(sealed))


@given(STATES, st.data())
def test_what_was_cut_off_is_refused(state: CarriedState, data: st.DataObject) -> None:
    sealed = SEAL.seal("cartpole", state)
    length = data.draw(st.integers(0, len(sealed) - 1))
    for part in (sealed[:length], sealed[-length:] if length else b""):
        with pytest.raises(InvalidArgumentError):
            SEAL.open("cartpole", part)


@given(STATES, st.binary(min_size=1, max_size=50))
def test_what_was_added_to_is_refused(state: CarriedState, more: bytes) -> None:
    sealed = SEAL.seal("cartpole", state)
    for longer in (sealed + more, more + sealed):
        with pytest.raises(InvalidArgumentError):
            SEAL.open("cartpole", longer)


@given(st.binary(max_size=100))
def test_bytes_that_nobody_sealed_are_refused(forged: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=f"got {len(forged)} bytes"):
        SEAL.open("cartpole", forged)


@given(NAMES, NAMES, STATES)
def test_the_state_of_another_policy_is_refused(policy: str, other: str, state: CarriedState) -> None:
    assume(policy != other)
    with pytest.raises(InvalidArgumentError, match="expected the state of policy"):
        SEAL.open(other, SEAL.seal(policy, state))


def test_a_name_does_not_run_into_the_state() -> None:
    # Without something between them, "a" and "b..." would be tagged like "ab" and "...".
    sealed = SEAL.seal("cartpole", CarriedState(1, b"elements"))
    with pytest.raises(InvalidArgumentError):
        SEAL.open("cartpole" + sealed[:1].decode(), sealed[1:])


@given(st.binary(min_size=32, max_size=64), STATES)
def test_the_state_of_another_installation_is_refused(key: bytes, state: CarriedState) -> None:
    assume(key[:32] != bytes(range(32)))
    with pytest.raises(InvalidArgumentError):
        SEAL.open("cartpole", StateSeal(key).seal("cartpole", state))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes, got 31"):
        StateSeal(bytes(31))
