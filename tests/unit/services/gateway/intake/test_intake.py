"""From a message to its response, through everything but gRPC."""

import asyncio
import itertools
import math
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.routes import Route, Shadow, point_of
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.intake import Intake, NotServedYetError
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.memory.carried_state import StateSeal
from services.gateway.memory.memory import Memory
from services.gateway.memory.sessions import SessionStore
from services.gateway.requests.request import Request
from steersman import tensors
from steersman.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from steersman.v1 import common_pb2, policy_pb2, replica_pb2
from tests.unit.services.gateway.numbers import NO_LIMITS, ManualLoop, until
from tests.unit.services.gateway.totals import TotalReplica, act, announce, compute, loaded_version

VALUE_AND_MEMORY = loaded_version(1, extras=["value", "action_distribution_inputs", "log_probability"])
NO_MEMORY = loaded_version(1, has_memory=False)


async def _nobody_comes(policy: str) -> None:
    """Takes a request for a replica, and starts none."""


class Stage:
    """A gateway without gRPC, and one replica that answers when it is told to.

    Attributes:
        intake: What is tested.
        catalogue: The policies.
        room: Where requests wait for the first replica.
        dispatcher: The policy's.
        replica: The replica.
    """

    def __init__(
        self, *versions: replica_pb2.LoadedVersion, limits: Limits = NO_LIMITS, reject_nonfinite: bool = False
    ) -> None:
        self._loop = ManualLoop()
        self.catalogue = catalogue = Catalogue(limits, self._loop)
        self.versions = versions
        self.replica = TotalReplica(*versions)
        self.dispatcher: Dispatcher = catalogue.attach(self.replica.attachment)
        memory = Memory(StateSeal(bytes(32)), SessionStore(max_sessions=10, idle_seconds=60.0))
        self.room = WaitingRoom(limits, 5.0, _nobody_comes)
        self.intake = Intake(catalogue, memory, self.room, reject_nonfinite=reject_nonfinite)

    def attach_another_replica(self) -> None:
        """Attaches a replica like the one that has gone."""
        self.replica = TotalReplica(*self.versions)
        self.dispatcher.attach(self.replica.attachment)

    def submit(self, message: policy_pb2.ActRequest) -> Request:
        request = self.intake.submit(message, math.inf, lambda _: None)
        self._loop.run()
        return request

    def run(self) -> None:
        """Runs what is due in the event loop."""
        self._loop.run()

    def answer_all(self) -> None:
        while self.replica.inbox:
            batch = self.replica.inbox.pop(0)
            answer = compute(batch)
            self.dispatcher.answered(self.replica.attachment, batch.id, answer)
            self._loop.run()

    def ask(self, message: policy_pb2.ActRequest) -> policy_pb2.ActResponse:
        """Has a message answered."""
        request = self.submit(message)
        self.answer_all()
        if request.error is not None:
            raise request.error
        response = policy_pb2.ActResponse()
        self.intake.respond(request, response)
        return response

    def outcomes(self) -> tuple[int, int, int, int, int]:
        """Gives how many requests were answered, failed, cancelled, expired and shed."""
        counts = self.catalogue.statistics("totals")
        assert counts is not None
        return counts.answered, counts.failed, counts.cancelled, counts.expired, counts.shed

    def announce(self, *versions: replica_pb2.LoadedVersion) -> None:
        self.replica.attachment.announce(announce(*versions))
        self.dispatcher.replica_changed()
        self._loop.run()


def actions(response: policy_pb2.ActResponse) -> list[int] | int:
    """Gives the actions of a response; a single one where it has no batch axis."""
    found: list[int] | int = tensors.decode(response.action["action"]).tolist()
    return found


def with_options(message: policy_pb2.ActRequest, **options: object) -> policy_pb2.ActRequest:
    message.options.CopyFrom(common_pb2.ActOptions(**options))  # type: ignore[arg-type]
    return message


def sums(numbers: Sequence[int]) -> list[int]:
    return list(itertools.accumulate(numbers))


def test_an_answer_has_a_batch_axis_if_and_only_if_the_request_had_one() -> None:
    stage = Stage(NO_MEMORY)
    assert actions(stage.ask(act(5))) == 5
    assert actions(stage.ask(act([5]))) == [5]
    # More than the replica takes at once.
    assert actions(stage.ask(act(list(range(11))))) == list(range(11))


def test_an_answer_says_who_gave_it_and_how_long_it_took() -> None:
    response = Stage(NO_MEMORY, loaded_version(4, has_memory=False)).ask(act(5))
    assert response.version == 4
    assert response.compute_microseconds == 7
    assert not response.state
    assert not response.extras


def test_an_episode_that_the_client_carries() -> None:
    stage = Stage()
    state = b""
    played: list[list[int] | int] = []
    for number in range(1, 9):
        response = stage.ask(act(number, state=state))
        state = response.state
        played.append(actions(response))
    assert played == sums(range(1, 9))


def test_episodes_that_the_gateway_keeps() -> None:
    stage = Stage()
    ids = ["left", "middle", "right"]
    response = stage.ask(act([1, 10, 100], session_ids=ids, episode_start=[True] * 3))
    assert not response.state
    assert actions(response) == [1, 10, 100]
    # Others in the batch, another order, and one of them begins anew.
    assert actions(stage.ask(act([200, 2], session_ids=["right", "left"]))) == [300, 3]
    assert actions(stage.ask(act([3, 30], session_ids=["left", "middle"], episode_start=[True, False]))) == [3, 40]
    assert actions(stage.ask(act(4, session_ids=["left"]))) == 7


def test_episodes_larger_than_a_batch_stay_in_order() -> None:
    stage = Stage()
    first = stage.ask(act(list(range(11))))
    second = stage.ask(act([1] * 11, state=first.state))
    assert actions(second) == [number + 1 for number in range(11)]


def test_an_element_begins_anew_in_what_a_client_carries() -> None:
    stage = Stage()
    first = stage.ask(act([1, 10, 100]))
    second = stage.ask(act([1, 1, 1], state=first.state, episode_start=[False, True, False]))
    assert actions(second) == [2, 1, 101]


def refusals() -> dict[str, tuple[policy_pb2.ActRequest, type[Exception]]]:
    """Gives requests for session "left" that are refused, each at another place on its way, and with what."""
    begin: dict[str, Any] = {"session_ids": ["left"], "episode_start": [True]}
    many = [f"session-{number}" for number in range(11)]
    wrong = act(1, **begin)
    wrong.observation["observation"].dtype = common_pb2.DATA_TYPE_FLOAT32
    return {
        "version": (act(1, policy="totals:9", **begin), NotFoundError),
        "observation": (wrong, InvalidArgumentError),
        "size": (act([1, 2], **begin), InvalidArgumentError),
        "starts": (act(1, session_ids=["left"], episode_start=[True, True]), InvalidArgumentError),
        "unknown session": (
            act([1, 1], session_ids=["left", "x"], episode_start=[True, False]),
            FailedPreconditionError,
        ),
        "extras": (with_options(act(1, **begin), value=True), FailedPreconditionError),
        "sampling": (with_options(act(1, **begin), sample=True), FailedPreconditionError),
        "step": (act(1, steps=[2], **begin), InvalidArgumentError),
        "state": (act(1, state=b"forged", **begin), InvalidArgumentError),
        "room for sessions": (act([1] * 11, session_ids=many, episode_start=[True] * 11), ResourceExhaustedError),
    }


@pytest.mark.parametrize("where", list(refusals()))
def test_a_request_that_is_refused_changes_nothing_and_is_counted_once(where: str) -> None:
    stage = Stage()
    stage.ask(act(1, session_ids=["left"], episode_start=[True]))
    message, error = refusals()[where]
    with pytest.raises(error):
        stage.submit(message)
    shed = error is ResourceExhaustedError
    assert stage.outcomes() == (1, int(not shed), 0, 0, int(shed))
    assert stage.replica.inbox == []
    assert actions(stage.ask(act(2, session_ids=["left"]))) == 3
    for number in range(9):
        stage.ask(act(1, session_ids=[f"new-{number}"], episode_start=[True]))


def test_what_finds_no_room_in_the_queue_changes_no_session() -> None:
    stage = Stage(limits=Limits(observations=1, size_bytes=10**6, pushback_milliseconds=70))
    stage.ask(act(1, session_ids=["left"], episode_start=[True]))
    for number in range(3):
        stage.submit(act(number))
    with pytest.raises(ResourceExhaustedError, match="expected room for 1 observations"):
        stage.submit(act(7, session_ids=["left"], episode_start=[True]))
    stage.answer_all()
    assert actions(stage.ask(act(2, session_ids=["left"]))) == 3


def test_sessions_that_begin_with_a_request_that_fails_give_their_places_back() -> None:
    stage = Stage()
    ids = [f"session-{number}" for number in range(10)]
    for end in ("abandoned", "failed"):
        request = stage.submit(act([1] * 10, session_ids=ids, episode_start=[True] * 10))
        with pytest.raises(ResourceExhaustedError):
            stage.submit(act(1, session_ids=["another"], episode_start=[True]))
        if end == "abandoned":
            request.abandon(time.monotonic())
        else:
            stage.dispatcher.fail_all(NotFoundError("undeployed"))
            stage.replica.inbox.clear()
            stage.dispatcher.detach(stage.replica.attachment)
            stage.dispatcher.fail_all(NotFoundError("undeployed"))
            stage.attach_another_replica()
        assert request.finished
    assert actions(stage.ask(act([1] * 10, session_ids=ids, episode_start=[True] * 10))) == [1] * 10


def test_a_step_whose_answer_was_lost_is_sent_again_and_advances_the_episode_once() -> None:
    stage = Stage()

    def step(number: int, step: int) -> int | list[int]:
        return actions(stage.ask(act(number, session_ids=["left"], episode_start=[step == 1], steps=[step])))

    assert [step(1, 1), step(1, 1), step(10, 2), step(10, 2), step(100, 3), step(100, 3)] == [1, 1, 11, 11, 111, 111]
    with pytest.raises(FailedPreconditionError, match="expected step 4 of session 'left'"):
        step(1, 5)


def test_an_unknown_session_is_refused_before_anything_is_computed() -> None:
    stage = Stage()
    with pytest.raises(FailedPreconditionError, match="expected session 'left'"):
        stage.submit(act(1, session_ids=["left"]))
    assert stage.replica.inbox == []


def test_a_state_is_refused_for_a_policy_without_memory() -> None:
    state = Stage().ask(act(1)).state
    with pytest.raises(InvalidArgumentError, match="'totals', which has no memory"):
        Stage(NO_MEMORY).submit(act(1, state=state))


def test_sessions_without_memory_stay_with_their_version_until_they_begin_anew() -> None:
    stage = Stage(NO_MEMORY)
    ids = [f"session-{number}" for number in range(20)]

    def versions(*, begin: bool) -> list[int]:
        return [stage.ask(act(1, session_ids=[name], episode_start=[begin])).version for name in ids[:10]]

    assert versions(begin=True) == [1] * 10
    stage.announce(NO_MEMORY, loaded_version(2, has_memory=False))
    stage.dispatcher.set_route(Route({1: 1, 2: 1}), None)
    assert versions(begin=False) == [1] * 10
    placed = [1 if point_of(name) < 0.5 else 2 for name in ids[:10]]
    assert set(placed) == {1, 2}
    assert versions(begin=True) == versions(begin=False) == placed
    stage.dispatcher.set_route(Route({2: 1}), None)
    assert versions(begin=False) == placed
    assert versions(begin=True) == [2] * 10


def test_bad_sessions_are_refused_for_a_policy_without_memory() -> None:
    stage = Stage(NO_MEMORY)
    for message, words in (
        (act(1, session_ids=[""]), "a session id of 1 to 128 bytes"),
        (act(1, session_ids=["a", "b"]), "expected 1 session ids, got 2"),
        (act([1, 2], session_ids=["a", "b"], episode_start=[True]), "episode_start for each of 2 sessions, got 1"),
        (act([1, 2], session_ids=["a", "a"]), "each session id once"),
        (act(1, session_ids=["a"], state=b"state"), "either a state or session ids"),
    ):
        with pytest.raises(InvalidArgumentError, match=words):
            stage.submit(message)
    # None of them is remembered with the version that it would have got.
    stage.announce(loaded_version(2, has_memory=False))
    assert stage.ask(act([1, 2], session_ids=["a", "b"])).version == 2


def test_requests_are_split_by_weight_and_episodes_with_memory_stay() -> None:
    stage = Stage(loaded_version(1), loaded_version(2))
    stage.dispatcher.set_route(Route({1: 1, 2: 1}), None)
    begun = [stage.ask(act(1)) for _ in range(40)]
    assert {response.version for response in begun} == {1, 2}
    for response in begun:
        assert stage.ask(act(1, state=response.state)).version == response.version


def test_a_shadow_gets_copies_and_only_while_nothing_waits() -> None:
    stage = Stage(NO_MEMORY, loaded_version(2, has_memory=False))
    stage.dispatcher.set_route(Route({1: 1}, Shadow(2, 1.0)), None)
    assert stage.ask(act(5)).version == 1
    stage.answer_all()
    counts = stage.dispatcher.shadow_statistics
    assert (counts.compared, counts.disagreed, counts.failed, counts.dropped, counts.in_flight) == (1, 0, 0, 0, 0)
    assert stage.dispatcher.statistics.answered == 1, "copies are not counted as requests"
    stage.ask(act(5, policy="totals:1"))
    assert counts.compared == 1, "who asks for a version is not part of the traffic"
    stage.announce(NO_MEMORY)
    stage.ask(act(5))
    stage.answer_all()
    assert (counts.compared, counts.failed) == (1, 1)


def test_an_episode_stays_with_its_version() -> None:
    stage = Stage(loaded_version(1))
    carried = stage.ask(act(1)).state
    stage.ask(act(10, session_ids=["left"], episode_start=[True]))
    stage.announce(loaded_version(1), loaded_version(2))
    responses = [stage.ask(act(1, state=carried)), stage.ask(act(1, session_ids=["left"])), stage.ask(act(1))]
    assert [actions(response) for response in responses] == [2, 11, 1]
    assert [response.version for response in responses] == [1, 1, 2]


def test_an_episode_whose_version_is_gone_is_refused_until_it_begins_anew() -> None:
    stage = Stage(loaded_version(1))
    carried = stage.ask(act(1)).state
    stage.ask(act(10, session_ids=["left"], episode_start=[True]))
    stage.announce(loaded_version(2))
    for message in (act(1, state=carried), act(1, session_ids=["left"])):
        with pytest.raises(
            FailedPreconditionError, match=r"expected version 1 .* no longer served; begin a new episode"
        ):
            stage.submit(message)
    for message in (
        act(1, state=carried, episode_start=[True]),
        act(1, session_ids=["left"], episode_start=[True]),
    ):
        response = stage.ask(message)
        assert (actions(response), response.version) == (1, 2)


def test_a_step_that_waits_for_a_version_that_goes_is_told_so() -> None:
    stage = Stage(loaded_version(1))
    in_flight = [stage.submit(act(number)) for number in range(2)]
    waiting = stage.submit(act(2))
    stage.announce(loaded_version(2))
    assert isinstance(waiting.error, FailedPreconditionError)
    stage.answer_all()
    assert [request.error for request in in_flight] == [None, None]


def test_an_address_with_another_version_than_the_episodes_is_refused() -> None:
    stage = Stage(loaded_version(1), loaded_version(2))
    carried = stage.ask(act(1, policy="totals:1")).state
    assert actions(stage.ask(act(1, policy="totals:1", state=carried))) == 2
    with pytest.raises(InvalidArgumentError, match="expected a state of version 2, got one of version 1"):
        stage.submit(act(1, policy="totals:2", state=carried))


def test_the_state_of_another_installation_is_refused() -> None:
    stage = Stage()
    state = bytearray(stage.ask(act(1)).state)
    state[12] ^= 1
    with pytest.raises(InvalidArgumentError, match="no gateway of this installation gave"):
        stage.submit(act(1, state=bytes(state)))


def test_extras_come_with_the_shape_of_the_action() -> None:
    stage = Stage(VALUE_AND_MEMORY)
    single = stage.ask(with_options(act(5), value=True))
    assert list(single.extras) == ["value"]
    assert tensors.decode(single.extras["value"]) == -5
    batch = stage.ask(with_options(act([5, 6]), value=True, log_probability=True))
    assert sorted(batch.extras) == ["log_probability", "value"]
    assert tensors.decode(batch.extras["value"]).tolist() == [-5, -6]
    assert actions(stage.ask(act([1, 1], state=batch.state))) == [6, 7]


@pytest.mark.parametrize("name", ["value", "log_probability", "action_distribution_inputs"])
def test_extras_that_the_version_does_not_have_are_refused(name: str) -> None:
    stage = Stage(NO_MEMORY)
    with pytest.raises(FailedPreconditionError, match=f"expected a bundle that gives '{name}'"):
        stage.submit(with_options(act(5), **{name: True}))
    assert stage.replica.inbox == []


def test_a_seed_goes_to_the_replica_and_without_one_each_request_gets_its_own() -> None:
    stage = Stage(VALUE_AND_MEMORY)
    stage.submit(with_options(act(1), sample=True, seed=2**64 - 1))
    assert [rows.seed for rows in stage.replica.inbox.pop().seeds] == [2**64 - 1]
    requests = [Stage(VALUE_AND_MEMORY).submit(with_options(act(1), sample=True)) for _ in range(5)]
    assert len({request.seed for request in requests}) == 5


def test_a_gateway_that_stops_takes_nothing_new_and_finishes_what_it_has() -> None:
    stage = Stage(NO_MEMORY)
    before = stage.submit(act(5))
    stage.intake.close()
    with pytest.raises(UnavailableError, match="stopping"):
        stage.submit(act(6))
    stage.answer_all()
    assert before.error is None
    assert before.finished


def test_what_does_not_fit_is_refused_and_counted_as_shed() -> None:
    stage = Stage(NO_MEMORY, limits=Limits(observations=1, size_bytes=10**6, pushback_milliseconds=70))
    for number in range(3):
        stage.submit(act(number))
    with pytest.raises(ResourceExhaustedError):
        stage.submit(act(3))
    assert stage.dispatcher.statistics.shed == 1
    stage.answer_all()
    assert (stage.dispatcher.statistics.answered, stage.dispatcher.statistics.shed) == (3, 1)


def test_what_nobody_waits_for_is_told_apart() -> None:
    stage = Stage(NO_MEMORY)
    message = act(1)
    assert stage.submit(message).interactive
    message.priority = policy_pb2.PRIORITY_BATCH
    assert not stage.submit(message).interactive


def test_unknown_policies_are_not_found() -> None:
    with pytest.raises(NotFoundError):
        Stage().submit(act(1, policy="nobody"))


def test_numbers_that_are_none_are_refused_where_that_is_wanted() -> None:
    floats = replica_pb2.LoadedVersion()
    floats.CopyFrom(NO_MEMORY)
    floats.spec.observation_tensors[0].dtype = common_pb2.DATA_TYPE_FLOAT32
    message = policy_pb2.ActRequest(
        policy="totals", observation={"observation": tensors.encode(np.array([np.nan], np.float32))}
    )
    Stage(floats).submit(message)
    with pytest.raises(InvalidArgumentError, match="expected finite numbers"):
        Stage(floats, reject_nonfinite=True).submit(message)


def test_a_request_knows_when_it_came_and_until_when_it_is_wanted() -> None:
    stage = Stage(NO_MEMORY)
    before = time.monotonic()
    request = stage.intake.submit(act(1), before + 9.0, lambda _: None)
    assert before <= request.arrived <= time.monotonic()
    assert request.deadline == before + 9.0


MIXED = (loaded_version(1, has_memory=False), loaded_version(2))
"""A version without memory, and one that has some."""


@pytest.mark.parametrize("weights", [{1: 9, 2: 1}, {1: 1, 2: 9}])
def test_a_route_over_versions_with_and_without_memory_answers_everything(weights: dict[int, float]) -> None:
    stage = Stage(*MIXED)
    stage.dispatcher.set_route(Route(weights), None)
    plain = [stage.ask(act(number)) for number in range(200)]
    assert [actions(response) for response in plain] == [*range(200)]
    assert {response.version for response in plain} == {1, 2}
    for number, response in enumerate(plain):
        following = stage.ask(act(1, state=response.state))
        assert following.version == response.version, "an episode stays with the version that it began with"
        assert actions(following) == (number + 1 if response.version == 2 else 1)
    pinned = [stage.ask(act(1, policy=f"totals:{number}")).version for number in (1, 2)]
    assert pinned == [1, 2]
    assert stage.outcomes()[1:] == (0, 0, 0, 0)
    assert not stage.dispatcher.given_up


def test_an_episode_that_begins_anew_with_a_state_at_hand_may_go_to_a_version_without_memory() -> None:
    stage = Stage(*MIXED)
    state = stage.ask(act(1, policy="totals:2")).state
    stage.dispatcher.set_route(Route({1: 1}), None)
    response = stage.ask(act(5, state=state, episode_start=[True]))
    assert (response.version, actions(response)) == (1, 5)
    assert actions(stage.ask(act(5, state=state))) == 6, "an episode that goes on stays where its memory is"


def test_sessions_over_versions_with_and_without_memory_stay_where_they_began() -> None:
    stage = Stage(*MIXED)
    stage.dispatcher.set_route(Route({1: 1, 2: 1}), None)
    ids = [f"session-{number}" for number in range(10)]
    placed = {}
    for name in ids:
        response = stage.ask(act(1, session_ids=[name], episode_start=[True]))
        placed[name] = response.version
        assert response.version == (1 if point_of(name) < 0.5 else 2)
    stage.dispatcher.set_route(Route({1: 9, 2: 1}), None)
    for name in ids:
        response = stage.ask(act(1, session_ids=[name]))
        assert (response.version, actions(response)) == (placed[name], placed[name])
    stage.announce(MIXED[1])
    without_memory = next(name for name in ids if placed[name] == 1)
    with pytest.raises(FailedPreconditionError, match=r"expected version 1 .* no longer served; begin a new episode"):
        stage.submit(act(1, session_ids=[without_memory]))
    assert stage.ask(act(1, session_ids=[without_memory], episode_start=[True])).version == 2


@settings(max_examples=50)
@given(
    has_memory=st.lists(st.booleans(), min_size=1, max_size=3),
    weights=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    clients=st.lists(st.tuples(st.sampled_from(["plain", "carried", "kept"]), st.integers(1, 5)), max_size=6),
    random=st.randoms(use_true_random=False),
)
def test_whatever_versions_have_memory_every_client_gets_its_own_answers(
    has_memory: list[bool], weights: list[int], clients: list[tuple[str, int]], random: Random
) -> None:
    versions = dict(enumerate(has_memory, 1))
    stage = Stage(*[loaded_version(number, memory) for number, memory in versions.items()])
    stage.dispatcher.set_route(Route({number: weights[number - 1] for number in versions}), None)
    played: list[list[int]] = [[] for _ in clients]
    states = [b""] * len(clients)
    began: dict[int, int] = {}
    turns = [index for index, (_, steps) in enumerate(clients) for _ in range(steps)]
    random.shuffle(turns)
    for index in turns:
        kind, _ = clients[index]
        number = random.randint(1, 100)
        played[index].append(number)
        message = act(number)
        if kind == "carried":
            message.state = states[index]
        elif kind == "kept":
            message = act(number, session_ids=[f"client-{index}"], episode_start=[len(played[index]) == 1])
        response = stage.ask(message)
        if kind == "plain":
            assert actions(response) == number
        else:
            # Without any memory nobody can tell which episode a step belongs to that brings no session.
            if any(has_memory) or kind == "kept":
                assert began.setdefault(index, response.version) == response.version
            assert actions(response) == (sum(played[index]) if versions[response.version] else number)
        states[index] = response.state
    assert stage.outcomes() == (len(turns), 0, 0, 0, 0)


async def test_who_waits_for_the_first_replica_is_counted_once() -> None:
    stage = Stage(NO_MEMORY)
    stage.dispatcher.detach(stage.replica.attachment)
    stage.catalogue.set_deployed({"totals": "waits for a replica"})
    stage.room.expect({"totals"})

    def wait(seconds: float) -> asyncio.Task[Request]:
        deadline = time.monotonic() + seconds
        with pytest.raises(NotServedYetError) as missing:
            stage.intake.submit(act(5), deadline, lambda _: None)
        waiting = stage.intake.submit_once_served(missing.value, act(5), 10, deadline, lambda _: None)
        return asyncio.create_task(waiting)

    with pytest.raises(DeadlineExceededError):
        await wait(0.01)
    assert stage.outcomes() == (0, 0, 0, 1, 0)
    cancelled, served = wait(60.0), wait(60.0)
    await until(lambda: stage.room.waiting("totals") == 2)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert stage.outcomes() == (0, 0, 1, 1, 0)
    stage.attach_another_replica()
    stage.room.wake("totals")
    request = await served
    stage.run()
    stage.answer_all()
    assert request.outputs
    assert stage.outcomes() == (1, 0, 1, 1, 0)
