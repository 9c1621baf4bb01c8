"""What a handler of a call is told, and when it is told nothing."""

from __future__ import annotations

from enum import IntEnum


class Receiver:
    """The handler of one call, to be derived from: told what comes. What it raises ends the call and nothing else."""

    __slots__ = ()

    def message(self, message: bytes) -> None:
        """One message has come whole."""

    def half_close(self) -> None:
        """No more messages come; called at most once."""

    def only(self, message: bytes) -> None:
        """One message has come, and no more come; called instead of both others where all is there at once."""
        self.message(message)
        self.half_close()

    def room(self) -> None:
        """What waited to be sent is sent, after `Call.full` was true."""

    def cancel(self) -> None:
        """The answer is not wanted any more; called at most once, last, and not if the handler has ended the call.

        The client went, the deadline passed, the server stops, the request was none, or this receiver has raised.
        """


class Hold(IntEnum):
    """Reasons not to read from a call; there may be several, so each is a bit.

    Attributes:
        HANDLER: Its handler asked for that.
        ROOM: Its answers pile up.
        ADMISSION: Those of the whole connection do, so it waits to be begun.
        TURN: It has had its turn, and others have theirs now.
    """

    HANDLER = 1
    ROOM = 2
    ADMISSION = 4
    TURN = 8
