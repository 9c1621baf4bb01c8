import pytest

from steersman.extras import EXTRAS, read_extras, write_extras
from steersman.v1 import common_pb2


def test_every_extra_is_a_field_of_the_options_and_the_other_way_round() -> None:
    fields = {field.name for field in common_pb2.ActOptions.DESCRIPTOR.fields}
    assert fields - {"sample", "seed"} == set(EXTRAS)


@pytest.mark.parametrize("names", [(), EXTRAS[:1], EXTRAS[1:], EXTRAS])
def test_what_was_written_is_read(names: tuple[str, ...]) -> None:
    options = common_pb2.ActOptions(sample=True, value=True)
    write_extras(options, names[::-1])
    assert read_extras(options) == names
    assert options.sample
