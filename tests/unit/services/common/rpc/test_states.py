import itertools

import pytest

from services.common.rpc.errors import StateError
from services.common.rpc.states import CallState, ConnectionState, ServerState, transition

ALLOWED = [
    (CallState.OPEN, CallState.ANSWERING),
    (CallState.OPEN, CallState.DONE),
    (CallState.OPEN, CallState.CANCELLED),
    (CallState.ANSWERING, CallState.DONE),
    (CallState.ANSWERING, CallState.CANCELLED),
    (ConnectionState.GREETING, ConnectionState.OPEN),
    (ConnectionState.GREETING, ConnectionState.CLOSED),
    (ConnectionState.OPEN, ConnectionState.WARNED),
    (ConnectionState.OPEN, ConnectionState.CLOSED),
    (ConnectionState.WARNED, ConnectionState.DRAINING),
    (ConnectionState.WARNED, ConnectionState.CLOSED),
    (ConnectionState.DRAINING, ConnectionState.CLOSED),
    (ServerState.NEW, ServerState.SERVING),
    (ServerState.NEW, ServerState.STOPPED),
    (ServerState.SERVING, ServerState.STOPPING),
    (ServerState.STOPPING, ServerState.STOPPED),
]


@pytest.mark.parametrize("kind", [CallState, ConnectionState, ServerState])
def test_only_the_transitions_of_the_table_are_made(kind: type[CallState]) -> None:
    for old, new in itertools.product(kind, kind):
        if any(pair[0] is old and pair[1] is new for pair in ALLOWED):
            assert transition(old, new) is new
        else:
            with pytest.raises(StateError, match=f"after {old.name}, got {new.name}"):
                transition(old, new)
