import itertools

import pytest

from services.gateway.requests.options import GREEDY, Options, read_options
from steersman.errors import FailedPreconditionError
from steersman.v1 import common_pb2

EXTRAS = ("log_probability", "value", "action_distribution_inputs")


def test_no_options_are_the_greedy_ones() -> None:
    # The very object: batches of greedy actions are told apart by it.
    assert read_options(common_pb2.ActOptions(seed=5), EXTRAS, False) is GREEDY


@pytest.mark.parametrize("sample", [False, True])
@pytest.mark.parametrize("wanted", [subset for n in range(4) for subset in itertools.combinations(EXTRAS, n)])
def test_what_a_client_asks_for_is_what_a_replica_is_asked_for(sample: bool, wanted: tuple[str, ...]) -> None:
    message = common_pb2.ActOptions(sample=sample, **dict.fromkeys(wanted, True))
    options = read_options(message, EXTRAS, False)
    assert options == Options(sample, wanted)
    assert options.message() == message


def test_the_seed_is_no_option_so_that_requests_with_different_seeds_share_a_batch() -> None:
    options = [read_options(common_pb2.ActOptions(sample=True, seed=seed), EXTRAS, False) for seed in (1, 2)]
    assert options[0] == options[1]
    assert not options[0].message().HasField("seed")


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_that_the_version_does_not_have_is_refused(name: str) -> None:
    others = [extra for extra in EXTRAS if extra != name]
    with pytest.raises(FailedPreconditionError, match=f"expected a bundle that gives '{name}'"):
        read_options(common_pb2.ActOptions(**{name: True}), others, False)


def test_there_must_be_something_to_sample_from() -> None:
    sample = common_pb2.ActOptions(sample=True)
    with pytest.raises(FailedPreconditionError, match="an action distribution to sample from"):
        read_options(sample, ["value"], False)
    assert read_options(sample, [], True).sample, "its every action is its greedy one"
