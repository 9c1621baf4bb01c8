from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.cluster.resources import check_schedulable
from steersman.errors import FailedPreconditionError

amounts = st.dictionaries(st.sampled_from(["CPU", "GPU"]), st.integers(0, 8).map(float))


def test_names_what_the_whole_cluster_lacks() -> None:
    with pytest.raises(FailedPreconditionError, match="needs 2 GPUs at once, and the whole cluster has 1"):
        check_schedulable([{"CPU": 1, "GPU": 1}, {"CPU": 1, "GPU": 1}], [{"CPU": 8, "GPU": 1}, {"CPU": 8}])


def test_names_the_process_that_no_node_has_room_for() -> None:
    with pytest.raises(FailedPreconditionError, match="needs 3 CPUs on one node"):
        check_schedulable([{"CPU": 3, "GPU": 0}], [{"CPU": 2}, {"CPU": 2}])


def test_a_process_is_not_split_over_nodes_with_different_resources() -> None:
    with pytest.raises(FailedPreconditionError, match="2 CPUs and 1 GPUs on one node"):
        check_schedulable([{"CPU": 2, "GPU": 1}], [{"CPU": 4}, {"CPU": 1, "GPU": 1}])


def test_fractions_that_fit_exactly_are_fine() -> None:
    check_schedulable([{"CPU": 0.5}, {"CPU": 0.5}], [{"CPU": 1.0}])


def test_no_nodes_have_nothing() -> None:
    with pytest.raises(FailedPreconditionError, match="the whole cluster has 0"):
        check_schedulable([{"CPU": 0.5}], [])


@given(st.lists(amounts, max_size=4), amounts)
def test_one_node_with_the_sum_of_all_is_always_enough(bundles: list[dict[str, float]], more: dict[str, float]) -> None:
    node = {name: sum(bundle.get(name, 0) for bundle in [*bundles, more]) for name in ("CPU", "GPU")}
    check_schedulable(bundles, [node])
