"""What a replica holds; attached replicas are tested with gateways."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.policy.replica import Replica
from services.policy.runtime import PolicyRuntime
from steersman.errors import InternalError, InvalidArgumentError
from tests.bundles import write_linear_bundle


@pytest.fixture
def load(tmp_path: Path) -> Callable[[], PolicyRuntime]:
    bundle = write_linear_bundle(tmp_path / "bundle")
    return lambda: PolicyRuntime(bundle)


def broken() -> PolicyRuntime:
    raise InvalidArgumentError("this is no model")


def worse() -> PolicyRuntime:
    raise RuntimeError("nobody expected this")


def replica() -> Replica:
    return Replica("linear", "replica", [], 8, 2**20)


async def test_it_holds_what_is_listed(load: Callable[[], PolicyRuntime]) -> None:
    ours = replica()
    await ours.load({1: load, 2: load})
    first = ours.versions[1]
    await ours.load({1: worse, 3: load})
    assert list(ours.versions) == [1, 3]
    assert ours.versions[1] is first, "it was loaded already"


async def test_what_is_not_the_same_any_more_is_loaded_anew(load: Callable[[], PolicyRuntime]) -> None:
    ours = replica()
    await ours.load({1: load})
    first = ours.versions[1]
    await ours.load({1: load}, {1})
    assert ours.versions[1] is not first


@pytest.mark.parametrize(("loader", "error"), [(broken, InvalidArgumentError), (worse, InternalError)])
async def test_versions_that_fail_take_nothing_away(
    load: Callable[[], PolicyRuntime], loader: Callable[[], PolicyRuntime], error: type[Exception]
) -> None:
    ours = replica()
    await ours.load({1: load})
    with pytest.raises(error):
        await ours.load({2: loader, 3: load})
    assert sorted(ours.versions) == [1, 3]


async def test_a_fresh_replica_holds_what_it_can(load: Callable[[], PolicyRuntime]) -> None:
    ours = replica()
    with pytest.raises(InvalidArgumentError):
        await ours.load({1: broken, 2: load})
    assert list(ours.versions) == [2]
