"""One replica, as long as its connection lives: what it can do, and the batches that it holds."""

from __future__ import annotations

import enum
from collections.abc import Callable

from services.gateway.dispatch.answer_times import AnswerTimes
from services.gateway.requests.batch import Batch
from services.gateway.requests.message_sizes import answer_size, batch_size
from services.gateway.requests.options import Options
from services.gateway.requests.versions import Version, read_version
from steersman.errors import InternalError, InvalidArgumentError
from steersman.v1 import replica_pb2

_LEAST_PATIENCE_SECONDS = 2.0
_PATIENCE = 20
"""How many times longer than expected a replica may take for a batch, within the limit that is set."""

_LEAST_PATIENCE = 3
"""How many times longer than expected it may take where that is beyond the limit."""


class AttachmentState(enum.Enum):
    """Whether a replica takes batches. `_TRANSITIONS` tells what follows on what."""

    READY = "it takes batches"
    CLOGGED = "it has yet to read what it was sent before it is given more"
    LEAVING = "it takes no more, and goes when it has answered those that it holds"
    LOST = "its connection is gone"


class _Event(enum.Enum):
    """What changes the state."""

    PAUSE = enum.auto()
    RESUME = enum.auto()
    LEAVE = enum.auto()
    LOSE = enum.auto()


_TRANSITIONS = {
    (AttachmentState.READY, _Event.PAUSE): AttachmentState.CLOGGED,
    (AttachmentState.READY, _Event.LEAVE): AttachmentState.LEAVING,
    (AttachmentState.READY, _Event.LOSE): AttachmentState.LOST,
    (AttachmentState.CLOGGED, _Event.RESUME): AttachmentState.READY,
    (AttachmentState.CLOGGED, _Event.LEAVE): AttachmentState.LEAVING,
    (AttachmentState.CLOGGED, _Event.LOSE): AttachmentState.LOST,
    (AttachmentState.LEAVING, _Event.PAUSE): AttachmentState.LEAVING,
    (AttachmentState.LEAVING, _Event.RESUME): AttachmentState.LEAVING,
    (AttachmentState.LEAVING, _Event.LEAVE): AttachmentState.LEAVING,
    (AttachmentState.LEAVING, _Event.LOSE): AttachmentState.LOST,
    (AttachmentState.LOST, _Event.LOSE): AttachmentState.LOST,
}


class Attachment:
    """A replica that is attached. All times are seconds of `time.monotonic`.

    Args:
        announce: The replica's first message.
        send: Takes a message for the replica; must not block. It raises `ConnectionError` once the replica has gone.
        max_message_bytes: The largest message that the gateway takes; also the largest that the replica takes, if it
            does not say.
        busy_poll_microseconds: How long gateway and replica may stay awake for each other's next message where a single
            caller is all that there is.
        expect_answer: Told with each batch how many seconds to stay awake for its answer.

    Attributes:
        policy: The policy that it serves.
        replica_id: Its name.
        versions: The versions that it has loaded, by number.
        failed_versions: Why it could not load versions, by number.
        max_batch_size: The most observations that it takes in one batch.
        smallest_limit: The most observations that fit into a batch of whatever version and options it was asked for.
        max_message_bytes: The largest message that it takes.
        max_answer_bytes: The largest message that the gateway takes from it.
        max_queue_delay: Seconds that an observation may wait for company while the batch is not full.
        last_given: The id of the last batch that it was given; 0 before the first.

    Raises:
        InvalidArgumentError: If the announcement makes no sense.
    """

    def __init__(
        self,
        announce: replica_pb2.Announce,
        send: Callable[[bytes], None],
        *,
        max_message_bytes: int,
        busy_poll_microseconds: int = 0,
        expect_answer: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._busy_poll_microseconds = busy_poll_microseconds
        self._expect_answer = expect_answer
        self.policy = announce.policy
        self.replica_id = announce.replica_id
        self.versions: dict[int, Version] = {}
        self.last_given = 0
        self._state = AttachmentState.READY
        self._send = send
        self.max_answer_bytes = max_message_bytes
        self._batches: dict[int, Batch] = {}
        self._answer_times: dict[int, AnswerTimes] = {}
        self._answered = self._heard = 0.0
        self._limits: dict[tuple[int, Options], int] = {}
        self.announce(announce)

    def announce(self, announce: replica_pb2.Announce) -> None:
        """Takes in what the replica can do from now on.

        Raises:
            InvalidArgumentError: If the announcement makes no sense or is another replica's.
        """
        if not announce.policy or (announce.policy, announce.replica_id) != (self.policy, self.replica_id):
            raise InvalidArgumentError(
                f"expected replica {self.replica_id!r} of policy {self.policy!r} to announce itself, "
                f"got {announce.replica_id!r} of {announce.policy!r}"
            )
        if announce.max_batches_in_flight < 1 or announce.max_batch_size < 1:
            raise InvalidArgumentError(
                "expected max_batches_in_flight and max_batch_size of at least 1, "
                f"got {announce.max_batches_in_flight} and {announce.max_batch_size}"
            )
        versions = {loaded.version: read_version(loaded) for loaded in announce.versions}
        self._answer_times = {
            number: times
            for number, times in self._answer_times.items()
            if number in versions and versions[number] == self.versions.get(number)
        }
        self.versions = versions
        self._warm_ups = {loaded.version: _warm_up_times(loaded) for loaded in announce.versions}
        self.failed_versions = {failed.version: failed.reason for failed in announce.failed_versions}
        self.max_batch_size = announce.max_batch_size
        self.max_message_bytes = announce.max_message_bytes or self.max_answer_bytes
        self.max_queue_delay = announce.max_queue_delay_microseconds / 1e6
        self._max_in_flight = announce.max_batches_in_flight
        self._limits.clear()
        self.smallest_limit = self.max_batch_size

    @property
    def state(self) -> AttachmentState:
        """Whether it takes batches."""
        return self._state

    @property
    def leaving(self) -> bool:
        """Whether it has said that it takes no more batches."""
        return self._state is AttachmentState.LEAVING

    def pause(self) -> None:
        """Gives it nothing more until it has read what it was sent."""
        self._change(_Event.PAUSE)

    def resume(self) -> None:
        """Gives it batches again, since it has read what it was sent."""
        self._change(_Event.RESUME)

    def leave(self) -> None:
        """Gives it nothing more, since it stops."""
        self._change(_Event.LEAVE)

    def _change(self, event: _Event) -> None:
        self._state = _TRANSITIONS[self._state, event]

    @property
    def in_flight(self) -> int:
        """Batches that it holds."""
        return len(self._batches)

    def holds(self, version: int) -> bool:
        """Tells whether it holds a batch of a version."""
        return any(batch.version.number == version for batch in self._batches.values())

    def heard(self, now: float) -> None:
        """Takes note that something came from it, be it a part of an answer.

        Args:
            now: Seconds of `time.monotonic`.
        """
        self._heard = now

    def is_overdue(self, now: float, longest: float) -> bool:
        """Tells whether nothing has come from it for so long that it must hang.

        It computes one batch after the other, so what counts is the time since it last answered, or since it was given
        the batch that it holds longest, if that is later. It may take much longer than its earlier answers let
        expect for a batch of that version and size; and longer than the limit where that is to be expected.

        Args:
            now: Seconds of `time.monotonic`.
            longest: Seconds that an answer may take, if no more is to be expected.
        """
        if not self._batches:
            return False
        began = max(self._answered, self._heard, min(batch.given for batch in self._batches.values()))
        # Which of them it computes first is up to the replica.
        return now - began > max(self._patience(batch, longest) for batch in self._batches.values())

    def _patience(self, batch: Batch, longest: float) -> float:
        """Gives the seconds that a batch may take: for a version's first one at least as long as any."""
        number = batch.version.number
        times = self._answer_times.get(number)
        if times is None:
            warm_up = self._warm_ups[number].expected(batch.size) if number in self._warm_ups else None
            return max(longest, _LEAST_PATIENCE * (warm_up or 0.0))
        expected = times.expected(batch.size) or 0.0
        within_limit = min(longest, max(_LEAST_PATIENCE_SECONDS, _PATIENCE * expected))
        return max(within_limit, _LEAST_PATIENCE * expected)

    def most_observations(self, version: int, options: Options) -> int:
        """Tells how many observations it takes in a batch: by their number, and by the bytes of batch and answer.

        Args:
            version: A version that it has loaded.
            options: The options of the batch.

        Returns:
            0 if not even one fits.
        """
        found = self._limits.get((version, options))
        if found is None:
            loaded = self.versions[version]
            found = self._limits[version, options] = min(
                self.max_batch_size,
                batch_size(loaded, options).most_observations(self.max_message_bytes),
                answer_size(loaded, options).most_observations(self.max_answer_bytes),
            )
            self.smallest_limit = min(self.smallest_limit, found or self.smallest_limit)
        return found

    def wants_work(self, waiting: int) -> bool:
        """Tells whether a batch would be worth its trip now, whatever it is for.

        A replica that computes gets its next batch ahead of time, so that the wire and the compute overlap, but only
        one that is at least as large as what it has in hand. Otherwise batches would decay under load to one or two
        observations, each at the price of a whole batch.

        Args:
            waiting: Observations that could be in the batch.
        """
        if self._state is not AttachmentState.READY or len(self._batches) >= self._max_in_flight:
            return False
        in_hand = sum([batch.size for batch in self._batches.values()])
        return waiting >= min(in_hand, self.smallest_limit)

    def can_take(self, version: int, options: Options, waiting: int, isolated: bool = False) -> bool:
        """Tells whether it should be given a batch now.

        Args:
            version: The version to compute with.
            options: The options of the batch.
            waiting: Observations that could be in the batch.
            isolated: Whether the batch is to be the only one that the replica holds.
        """
        if version not in self.versions or not self.most_observations(version, options):
            return False
        if not self.wants_work(waiting):
            return False
        return not (self._batches and (isolated or any(batch.isolated for batch in self._batches.values())))

    def give(self, batch: Batch, queue_depth: int) -> None:
        """Hands it a batch. It holds the batch only if that could be written and sent.

        Args:
            batch: The batch; `can_take` must allow it.
            queue_depth: Observations that still wait.

        Raises:
            InternalError: If a request does not carry the version's inputs, or the message is too large after all.
            ConnectionError: If the replica has gone; then it takes no more.
            Exception: If it cannot be sent for another reason.
        """
        # A single caller waits for this one alone, and so may be back soon.
        is_alone = batch.size == 1 and not self._batches and not queue_depth
        busy_poll_microseconds = self._busy_poll_microseconds if is_alone else 0
        message = batch.message(queue_depth, busy_poll_microseconds).SerializeToString()
        if len(message) > self.max_message_bytes:
            raise InternalError(f"expected a batch of at most {self.max_message_bytes} bytes, got {len(message)}")
        try:
            self._send(message)
        except ConnectionError:
            self._change(_Event.LOSE)
            raise
        self._expect_answer(busy_poll_microseconds / 1e6)
        self._batches[batch.id] = batch
        self.last_given = batch.id

    def take_back(self, batch_id: int, now: float) -> Batch:
        """Takes a batch off it, since it has answered.

        Args:
            batch_id: The batch's id.
            now: Seconds of `time.monotonic`.

        Raises:
            InvalidArgumentError: If it does not hold such a batch.
        """
        batch = self._batches.pop(batch_id, None)
        if batch is None:
            raise InvalidArgumentError(f"expected a result for a batch in flight, got one for batch {batch_id}")
        number = batch.version.number
        times = self._answer_times.get(number)
        if times is None:
            times = self._answer_times[number] = AnswerTimes()
        times.add(batch.size, now - max(self._answered, batch.given))
        self._answered = now
        return batch

    def take_back_all(self) -> list[Batch]:
        """Takes all batches off it, since it is lost; oldest first."""
        self._change(_Event.LOSE)
        batches = list(self._batches.values())
        self._batches.clear()
        return batches


def _warm_up_times(loaded: replica_pb2.LoadedVersion) -> AnswerTimes:
    """Reads what a version's first batch should take, if its replica tells."""
    times = AnswerTimes()
    if loaded.warm_up_observations:
        times.add(loaded.warm_up_observations, loaded.warm_up_microseconds / 1e6)
    return times
