from services.gateway.dispatch.probation import MAX_FAILURES, Probation


def test_a_version_that_fails_over_and_over_is_given_up() -> None:
    probation = Probation()
    for _ in range(MAX_FAILURES - 1):
        assert not probation.failed(8, "the model failed")
        assert probation.usable([7, 8]) == [7, 8]
    assert probation.failed(8, "the model failed")
    assert probation.given_up == {8: "the model failed"}
    assert probation.usable([7, 8]) == [7]
    assert probation.usable([8]) == [8], "better than nothing"


def test_one_that_takes_its_replica_along_is_given_up_at_once() -> None:
    probation = Probation()
    assert probation.failed(8, "the replica was lost", lost=True)


def test_whoever_has_answered_is_not_on_probation_until_it_is_loaded_again() -> None:
    probation = Probation()
    assert not probation.is_proven(8)
    probation.failed(8, "an observation that nobody can compute")
    probation.succeeded(8)
    assert probation.is_proven(8)
    probation.forget([7, 8])
    assert probation.is_proven(8)
    probation.forget([7])
    assert not probation.is_proven(8)


def test_what_was_given_up_gets_another_chance_when_it_is_loaded_again_or_somebody_wants_it_anew() -> None:
    probation = Probation()
    probation.failed(8, "lost", lost=True)
    probation.failed(9, "lost", lost=True)
    probation.forget([7, 9])
    assert list(probation.given_up) == [9]
    probation.pardon()
    assert not probation.given_up
