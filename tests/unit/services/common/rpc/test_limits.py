from services.common.rpc.limits import RateLimit


def test_a_burst_is_borne_and_then_only_the_rate() -> None:
    limit = RateLimit((3, 2), now=0.0)
    assert [limit.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [limit.take(1.0) for _ in range(3)] == [True, True, False]


def test_tokens_do_not_pile_up_beyond_the_burst() -> None:
    limit = RateLimit((3, 2), now=0.0)
    assert [limit.take(1000.0) for _ in range(4)] == [True, True, True, False]
