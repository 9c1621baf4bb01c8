from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.requests.batch import Batch
from services.gateway.requests.message_sizes import MessageSize, answer_size, batch_size
from services.gateway.requests.options import GREEDY, Options
from services.gateway.requests.request import Request, Segment
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version, read_version
from steersman import tensors
from steersman.extras import EXTRAS
from steersman.v1 import common_pb2, replica_pb2

SPECS = st.lists(
    st.builds(
        common_pb2.TensorSpec,
        name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
        dtype=st.sampled_from(list(tensors.NUMPY_DTYPES)),
        shape=st.lists(st.integers(0, 5), max_size=4),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda spec: spec.name,
)


@st.composite
def versions(draw: st.DrawFn) -> Version:
    observation, state, action = draw(SPECS), draw(SPECS), draw(SPECS)
    spec = common_pb2.PolicySpec(
        observation_tensors=observation,
        state_tensors=[entry for entry in state if entry.name not in {other.name for other in observation}],
        action_tensors=action,
        extra_tensors=[common_pb2.TensorSpec(name=name, dtype=common_pb2.DATA_TYPE_FLOAT32) for name in EXTRAS],
    )
    return read_version(replica_pb2.LoadedVersion(version=draw(st.integers(1, 2**63 - 1)), spec=spec))


OPTIONS = st.sampled_from([GREEDY, Options(True, ()), Options(False, ("value",)), Options(True, tuple(EXTRAS))])


@given(version=versions(), options=OPTIONS, sizes=st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_no_batch_is_larger_than_it_is_taken_for(version: Version, options: Options, sizes: list[int]) -> None:
    segments = []
    for size in sizes:
        entry = Request(
            policy="any",
            statistics=Statistics(),
            inputs=tuple(bytes(size * tensor.row_bytes) for tensor in version.inputs),
            size=size,
            batched=True,
            version=version,
            pinned=False,
            arrived=0.0,
            on_finished=lambda _: None,
            options=options,
            seed=2**64 - 1 if options.sample else 0,
            deadline=1e9,
        )
        segments.append(Segment(entry, 0, size))
    batch = Batch(version, options, segments, sum(sizes), given=1e6, id=2**64 - 1)
    assert batch.message(2**32 - 1, 2**32 - 1).ByteSize() <= bytes_of(batch_size(version, options), batch.size)


@given(version=versions(), options=OPTIONS, size=st.integers(1, 20))
def test_no_answer_is_larger_than_it_is_taken_for(version: Version, options: Options, size: int) -> None:
    answer = replica_pb2.BatchAnswer(compute_microseconds=2**32 - 1)
    for entry in version.outputs(options):
        tensor = answer.outputs[entry.name]
        tensor.dtype = entry.dtype
        tensor.shape.extend((size, *entry.shape))
        tensor.data = bytes(size * entry.row_bytes)
    message = replica_pb2.AttachRequest(result=replica_pb2.BatchResult(id=2**64 - 1, answer=answer))
    assert message.ByteSize() <= bytes_of(answer_size(version, options), size)


def bytes_of(size: MessageSize, observations: int) -> int:
    return size.once + observations * size.each


@given(once=st.integers(0, 1000), each=st.integers(0, 1000), limit=st.integers(0, 10_000))
def test_as_many_observations_are_sent_as_fit(once: int, each: int, limit: int) -> None:
    size = MessageSize(once, each)
    most = size.most_observations(limit)
    assert most == 0 or bytes_of(size, most) <= limit
    assert each == 0 or bytes_of(size, most + 1) > limit
