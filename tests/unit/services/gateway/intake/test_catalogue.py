import pytest

from services.gateway.dispatch.routes import Route
from services.gateway.intake.catalogue import Catalogue, Routing
from services.gateway.intake.resolution import Resolution
from steersman.errors import InvalidArgumentError, NotFoundError, UnavailableError
from tests.unit.services.gateway.numbers import NO_LIMITS, ManualLoop, NumberReplica, request


def test_a_name_means_the_newest_version_and_a_number_just_that_one() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    dispatcher = catalogue.attach(NumberReplica(versions=(1, 3)).attachment)
    assert catalogue.resolve("numbers") == Resolution(dispatcher, dispatcher.versions[3], pinned=False)
    assert catalogue.resolve("numbers:1") == Resolution(dispatcher, dispatcher.versions[1], pinned=True, by_number=True)


def test_an_alias_means_its_version_and_a_name_the_route() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    routing = Routing(Route({1: 1}), None, {"candidate": 3, "next": 4}, frozenset({1, 3, 4}))
    catalogue.set_routing({"numbers": routing})
    dispatcher = catalogue.attach(NumberReplica(versions=(1, 3)).attachment)
    assert catalogue.resolve("numbers") == Resolution(dispatcher, dispatcher.versions[1], pinned=False)
    assert catalogue.resolve("numbers@candidate") == Resolution(dispatcher, dispatcher.versions[3], pinned=True)
    with pytest.raises(UnavailableError, match="expected version 4 of policy 'numbers', but its replicas are loading"):
        catalogue.resolve("numbers@next")
    with pytest.raises(NotFoundError, match=r"aliases of policy 'numbers' \(candidate, next\), got 'other'"):
        catalogue.resolve("numbers@other")
    catalogue.set_routing({"numbers": Routing(Route({3: 1}))})
    assert catalogue.resolve("numbers").version.number == 3


@pytest.mark.parametrize("address", ["numbers:", "numbers:x", "numbers:-1", "numbers:1:2", "numbers:²"])
def test_what_is_no_address_is_refused(address: str) -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    catalogue.attach(NumberReplica().attachment)
    with pytest.raises(InvalidArgumentError, match="expected an address like"):
        catalogue.resolve(address)


def test_unknown_policies_and_versions_are_not_found() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    with pytest.raises(NotFoundError, match="deployed policies, of which there are none, got 'letters'"):
        catalogue.resolve("letters")
    catalogue.attach(NumberReplica().attachment)
    with pytest.raises(NotFoundError, match=r"deployed policies \(numbers\), got 'letters'"):
        catalogue.resolve("letters")
    with pytest.raises(NotFoundError, match=r"served versions of policy 'numbers' \(1\), got 2"):
        catalogue.resolve("numbers:2")


def test_a_deployed_policy_without_a_replica_is_unavailable_with_the_reason() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    catalogue.set_deployed({"numbers": "waits for 1 of 1 replicas"})
    with pytest.raises(UnavailableError, match="waits for 1 of 1 replicas"):
        catalogue.resolve("numbers")


def test_a_replica_that_is_still_loading_makes_a_policy_unavailable() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    catalogue.attach(NumberReplica(versions=()).attachment)
    with pytest.raises(UnavailableError, match="loading"):
        catalogue.resolve("numbers")


def test_what_waits_for_an_undeployed_policy_fails_once_the_last_replica_has_gone() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    replica = NumberReplica()
    dispatcher = catalogue.attach(replica.attachment)
    waiting = request()
    dispatcher.submit(waiting)
    catalogue.set_deployed({})
    assert not waiting.finished, "a replica is attached, whoever deployed it"
    dispatcher.detach(replica.attachment)
    catalogue.set_deployed({})
    assert isinstance(waiting.error, NotFoundError)
    with pytest.raises(NotFoundError):
        catalogue.resolve("numbers")


def test_before_it_is_known_what_is_deployed_nobody_is_told_that_something_is_not() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    catalogue.is_settled = False
    with pytest.raises(UnavailableError, match="has just started"):
        catalogue.resolve("numbers")
    catalogue.is_settled = True
    with pytest.raises(NotFoundError):
        catalogue.resolve("numbers")


def test_counts_are_kept_for_what_is_deployed_or_attached_and_for_nothing_else() -> None:
    catalogue = Catalogue(NO_LIMITS, ManualLoop())
    assert catalogue.statistics("numbers") is None
    catalogue.set_deployed({"numbers": "waits for a replica"})
    counts = catalogue.statistics("numbers")
    replica = NumberReplica()
    dispatcher = catalogue.attach(replica.attachment)
    assert dispatcher.statistics is counts is catalogue.statistics("numbers")
    catalogue.set_deployed({})
    assert catalogue.statistics("numbers") is counts, "it still has a replica"
    dispatcher.detach(replica.attachment)
    catalogue.set_deployed({})
    assert catalogue.statistics("numbers") is None
