import pytest

from services.policy.load import LoadMeter
from tests.unit.services.policy.clock import Clock

GATEWAY, OTHER_GATEWAY = "127.0.0.1:1", "127.0.0.1:2"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> LoadMeter:
    return LoadMeter(max_batch_size=256, clock=clock)


def compute(
    meter: LoadMeter, clock: Clock, seconds: float, size: int = 1, queue_depth: int = 0, queue_delay: float = 0.0
) -> None:
    began = meter.begin(GATEWAY, queue_depth, queue_delay)
    clock.now += seconds
    meter.end(GATEWAY, began, size)


def test_an_idle_replica_has_no_load(meter: LoadMeter, clock: Clock) -> None:
    clock.now += 3
    report = meter.report()
    assert (report.busy_share, report.load, report.queue_depth, report.backlog_seconds) == (0, 0, 0, 0)
    assert report.idle_seconds == 3


def test_the_busy_share_is_that_of_the_time_since_the_last_report(meter: LoadMeter, clock: Clock) -> None:
    compute(meter, clock, 0.3, size=6)
    clock.now += 0.7
    report = meter.report()
    assert report.busy_share == pytest.approx(0.3)
    assert report.observations_per_second == pytest.approx(6)
    assert report.batch_seconds == pytest.approx(0.3)
    assert report.idle_seconds == pytest.approx(0.7)
    clock.now += 1
    assert meter.report().busy_share == 0


def test_a_batch_that_is_still_computed_counts(meter: LoadMeter, clock: Clock) -> None:
    clock.now += 0.5
    began = meter.begin(GATEWAY, 0, 0.0)
    clock.now += 0.5
    assert meter.report().busy_share == pytest.approx(0.5)
    clock.now += 1
    report = meter.report()
    assert report.busy_share == pytest.approx(1.0)
    assert report.idle_seconds == 0
    clock.now += 0.25
    meter.end(GATEWAY, began, 1)
    clock.now += 0.75
    assert meter.report().busy_share == pytest.approx(0.25)


def test_batches_of_two_gateways_at_once_are_not_counted_twice(meter: LoadMeter, clock: Clock) -> None:
    first = meter.begin(GATEWAY, 0, 0.0)
    clock.now += 0.2
    second = meter.begin(OTHER_GATEWAY, 0, 0.0)
    clock.now += 0.2
    meter.end(GATEWAY, first, 1)
    clock.now += 0.1
    meter.end(OTHER_GATEWAY, second, 1)
    clock.now += 0.5
    assert meter.report().busy_share == pytest.approx(0.5)


def test_what_waits_at_all_gateways_adds_up_and_the_worst_delay_counts(meter: LoadMeter, clock: Clock) -> None:
    compute(meter, clock, 0.1, size=10)
    meter.begin(GATEWAY, queue_depth=30, queue_delay=0.2)
    meter.begin(OTHER_GATEWAY, queue_depth=20, queue_delay=0.5)
    clock.now += 5
    report = meter.report()
    assert (report.queue_depth, report.queue_delay_seconds) == (50, 0.5), "current as long as the batch is not answered"
    assert report.backlog_seconds == pytest.approx(50 * 0.1 / 10)


def test_what_waited_is_forgotten_when_no_batch_comes_any_more(meter: LoadMeter, clock: Clock) -> None:
    compute(meter, clock, 0.5, queue_depth=1000, queue_delay=2.0)
    assert meter.report().queue_depth == pytest.approx(1000)
    clock.now += 0.5
    assert meter.report().queue_depth == pytest.approx(250)
    clock.now += 9.5
    report = meter.report()
    assert report.queue_depth < 1e-6
    assert report.queue_delay_seconds < 1e-8


def test_load_is_less_than_busy_time_where_larger_batches_would_do_the_same(meter: LoadMeter, clock: Clock) -> None:
    for size in (1, 2, 3, 2):
        compute(meter, clock, 0.25, size)
    report = meter.report()
    assert report.busy_share == pytest.approx(1.0)
    assert report.load == pytest.approx(8 * 0.25 / 256)


def test_what_was_not_computed_is_no_work_but_busy_time(meter: LoadMeter, clock: Clock) -> None:
    compute(meter, clock, 0.5, size=0)
    clock.now += 0.5
    report = meter.report()
    assert report.busy_share == pytest.approx(0.5)
    assert report.observations_per_second == 0


def test_two_reports_at_once_are_the_same(meter: LoadMeter, clock: Clock) -> None:
    compute(meter, clock, 1.0, size=5)
    report = meter.report()
    clock.now += 0.001
    assert meter.report() == report
