"""A policy whose versions differ in all that they may: memory, observations and extras; for tests of the dispatcher.

Whatever its kind, a version's action is the sum of all numbers of its inputs, times 100, plus its own number; and, if
it is drawn, plus 10^6 times the seed, plus 10^4 times the observation's index in its request. So an answer proves which
version computed it, from which inputs, with which seed. All numbers are int64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count

import numpy as np
import numpy.typing as npt

from services.gateway.dispatch.attachment import Attachment
from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.request import Request
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version, read_version
from steersman import tensors
from steersman.extras import EXTRAS, LOG_PROBABILITY, VALUE
from steersman.v1 import common_pb2, replica_pb2

POLICY = "sums"
MAX_MESSAGE_BYTES = 2**20
SAMPLED = Options(sample=True, extras=(LOG_PROBABILITY,))
WITH_VALUE = Options(sample=False, extras=(VALUE,))

Arrays = Mapping[str, npt.NDArray[np.int64]]

_NUMBER, _TOTAL, _STEPS, _ROW = ("observation", ()), ("total", ()), ("steps", (2,)), ("observation", (3,))

# Observation and state of each version.
_KINDS: dict[int, tuple[list[tuple[str, tuple[int, ...]]], list[tuple[str, tuple[int, ...]]]]] = {
    1: ([_NUMBER], []),
    2: ([_NUMBER], []),
    3: ([_NUMBER], [_TOTAL, _STEPS]),
    4: ([_NUMBER], [_TOTAL, _STEPS]),
    5: ([_ROW], []),
    # The inputs of version 3, without its memory.
    6: ([_NUMBER, _TOTAL, _STEPS], []),
}
PLAIN, ALSO_PLAIN, MEMORY, ALSO_MEMORY, WIDE, DISGUISED = _KINDS
OPTIONS = {number: [GREEDY, SAMPLED, WITH_VALUE] for number in (PLAIN, ALSO_PLAIN, MEMORY)} | {
    number: [GREEDY] for number in (ALSO_MEMORY, WIDE, DISGUISED)
}
"""What may be asked of each version."""

_next = count(1)


def loaded_version(number: int) -> replica_pb2.LoadedVersion:
    """Announces a version; what it took to warm it is not known."""
    observation, state = _KINDS[number]
    extras = EXTRAS if len(OPTIONS[number]) > 1 else ()
    spec = common_pb2.PolicySpec(
        observation_tensors=[_spec(*entry) for entry in observation],
        state_tensors=[_spec(*entry) for entry in state],
        action_tensors=[_spec("action", ())],
        extra_tensors=[_spec(name, ()) for name in extras],
        action_distributions=[common_pb2.ActionDistribution(kind="categorical")],
    )
    return replica_pb2.LoadedVersion(version=number, spec=spec)


def _spec(name: str, shape: tuple[int, ...]) -> common_pb2.TensorSpec:
    return common_pb2.TensorSpec(name=name, dtype=common_pb2.DATA_TYPE_INT64, shape=shape)


def version(number: int) -> Version:
    """Gives a version."""
    return read_version(loaded_version(number))


def announce(
    versions: Sequence[int],
    *,
    replica_id: str = "replica",
    credit: int = 2,
    max_batch_size: int = 8,
    max_message_bytes: int = 0,
) -> replica_pb2.Announce:
    """Announces a replica."""
    return replica_pb2.Announce(
        policy=POLICY,
        replica_id=replica_id,
        versions=[loaded_version(number) for number in versions],
        max_batches_in_flight=credit,
        max_batch_size=max_batch_size,
        max_message_bytes=max_message_bytes,
    )


def request(
    number: int = PLAIN,
    size: int = 1,
    *,
    carries: int | None = None,
    statistics: Statistics | None = None,
    pinned: bool = False,
    options: Options = GREEDY,
    seed: int = 0,
    interactive: bool = True,
    deadline: float = math.inf,
    on_finished: Callable[[Request], None] = lambda _: None,
) -> Request:
    """Makes a request with numbers that no other one has.

    Args:
        number: The version that it is for.
        size: How many observations.
        carries: The version whose inputs it has, if a fault gave it those of another one.
        statistics: Where it counts; of its own if there are none.
        pinned: See `Request`, as for the others.
        options: See there.
        seed: See there.
        interactive: See there.
        deadline: See there.
        on_finished: See there.
    """
    inputs = [
        np.array([next(_next) for _ in range(size * math.prod(entry.shape))], np.int64).tobytes()
        for entry in version(carries or number).inputs
    ]
    return Request(
        policy=POLICY,
        statistics=Statistics() if statistics is None else statistics,
        inputs=tuple(inputs),
        size=size,
        batched=size > 1,
        version=version(number),
        pinned=pinned,
        arrived=0.0,
        on_finished=on_finished,
        options=options,
        seed=seed if options.sample else 0,
        interactive=interactive,
        deadline=deadline,
    )


def outputs_of(number: int, inputs: Arrays, options: common_pb2.ActOptions, draws: Sequence[int]) -> Arrays:
    """Computes what a version answers.

    Args:
        number: The version.
        inputs: Its inputs by name.
        options: What is wanted besides the action.
        draws: What is added to each action.
    """
    size = len(next(iter(inputs.values())))
    sums = sum((array.reshape(size, -1).sum(axis=1) for array in inputs.values()), np.zeros(size, np.int64))
    outputs = {"action": sums * 100 + number + np.array(draws, np.int64)}
    for name, _ in _KINDS[number][1]:
        outputs[name] = inputs[name] + 1
    for extra in EXTRAS:
        if getattr(options, extra):
            outputs[extra] = -outputs["action"]
    return outputs


def _draw(seed: int, index: int) -> int:
    return seed * 1_000_000 + index * 10_000


def expected(entry: Request, asked: int) -> tuple[bytes, ...]:
    """Gives the answer that a request has to get.

    Args:
        entry: The request; its version is the one that has answered it.
        asked: The version that it was for in the beginning, and whose inputs and outputs it has.
    """
    first = version(asked)
    arrays = {
        tensor.name: np.frombuffer(elements, np.int64).reshape(entry.size, *tensor.shape)
        for tensor, elements in zip(first.inputs, entry.inputs, strict=True)
    }
    draws = [_draw(entry.seed, index) if entry.options.sample else 0 for index in range(entry.size)]
    computed = outputs_of(entry.version.number, arrays, entry.options.message(), draws)
    return tuple(computed[tensor.name].tobytes() for tensor in first.outputs(entry.options))


class SumReplica:
    """A replica that a test lets answer.

    Args:
        versions: What it has loaded.
        replica_id: Its name.
        credit: The batches that it takes at once.
        max_batch_size: The most observations in one.
        max_message_bytes: The largest message that it takes; 0 if it does not say.
        max_answer_bytes: The largest message that the gateway takes.

    Attributes:
        attachment: The gateway's side of it.
        inbox: Batches that it has been sent and has not answered.
        largest: Bytes of the largest message that it has been sent.
        largest_answer: Bytes of the largest message that it has answered with.
        broken_sends: How many of the next messages cannot be sent to it.
        is_gone: Whether it has hung up, which the gateway only notices when it sends something.
    """

    def __init__(
        self,
        versions: Sequence[int],
        replica_id: str = "replica",
        credit: int = 2,
        max_batch_size: int = 8,
        max_message_bytes: int = 0,
        max_answer_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.inbox: list[replica_pb2.Batch] = []
        self.largest = self.largest_answer = self.broken_sends = 0
        self.is_gone = False
        announced = announce(
            versions,
            replica_id=replica_id,
            credit=credit,
            max_batch_size=max_batch_size,
            max_message_bytes=max_message_bytes,
        )
        self.attachment = Attachment(announced, self._take, max_message_bytes=max_answer_bytes)

    def _take(self, message: bytes) -> None:
        if self.is_gone:
            raise ConnectionResetError("it has hung up")
        if self.broken_sends:
            self.broken_sends -= 1
            raise ValueError("the message cannot be sent")
        self.largest = max(self.largest, len(message))
        self.inbox.append(replica_pb2.AttachResponse.FromString(message).batch)

    def compute(self, batch: replica_pb2.Batch) -> replica_pb2.BatchAnswer:
        """Computes what the policy answers."""
        inputs = {name: tensors.decode(tensor).astype(np.int64) for name, tensor in batch.inputs.items()}
        size = len(next(iter(inputs.values())))
        draws = [_draw(rows.seed, rows.first + index) for rows in batch.seeds for index in range(rows.count)]
        if not batch.options.sample:
            draws = [0] * size
        outputs = outputs_of(batch.version, inputs, batch.options, draws)
        answer = replica_pb2.BatchAnswer(
            outputs={name: tensors.encode(array) for name, array in outputs.items()}, compute_microseconds=7
        )
        message = replica_pb2.AttachRequest(result=replica_pb2.BatchResult(id=batch.id, answer=answer))
        self.largest_answer = max(self.largest_answer, message.ByteSize())
        return answer
