import grpc
import pytest

from steersman import errors


@pytest.mark.parametrize("kind", errors.SteersmanError.__subclasses__())
def test_an_error_survives_the_wire(kind: type[errors.SteersmanError]) -> None:
    restored = errors.from_status(errors.status_number(kind("why")), "why")
    assert type(restored) is kind
    assert str(restored) == "why"


def test_unknown_codes_become_the_base_class() -> None:
    assert type(errors.from_status(99, "odd")) is errors.SteersmanError
    assert type(errors.from_status(grpc.StatusCode.DATA_LOSS, "odd")) is errors.SteersmanError
