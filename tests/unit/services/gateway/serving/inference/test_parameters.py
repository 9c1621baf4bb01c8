import pytest

from services.gateway.serving.inference.parameters import NO_PARAMETERS, Parameters, read_parameters
from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import inference_pb2
from tests.inference_stub import Parameter, set_parameter


def read(**values: Parameter) -> Parameters:
    request = inference_pb2.ModelInferRequest()
    for name, value in values.items():
        set_parameter(request.parameters[name], value)
    return read_parameters(request.parameters)


def test_without_parameters_there_is_nothing_to_read() -> None:
    assert read() is NO_PARAMETERS
    assert read(binary_data_output=True, temperature=0.5, user="somebody") == NO_PARAMETERS


def test_known_parameters_are_read() -> None:
    assert read(deterministic=False, seed=7, timeout=1500) == Parameters(
        deterministic=False, seed=7, timeout_seconds=0.0015
    )
    assert read(sequence_id="a", sequence_start=True, sequence_end=True, sequence_step=1) == Parameters(
        sequence_id="a", sequence_start=True, sequence_end=True, sequence_step=1
    )


@pytest.mark.parametrize(("sequence_id", "session"), [(17, "17"), (-3, "-3"), ("x", "x"), (0, ""), ("", "")])
def test_a_sequence_id_is_a_number_or_a_text(sequence_id: int | str, session: str) -> None:
    assert read(sequence_id=sequence_id).sequence_id == session


@pytest.mark.parametrize(("priority", "interactive"), [(0, True), (1, True), (2, False), (9, False)])
def test_only_the_highest_priority_is_interactive(priority: int, interactive: bool) -> None:
    assert read(priority=priority).interactive is interactive


def test_large_seeds_come_unsigned() -> None:
    parameters = {"seed": inference_pb2.InferParameter(uint64_param=2**64 - 1)}
    assert read_parameters(parameters).seed == 2**64 - 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("deterministic", "yes", "expected parameter 'deterministic' as a bool_param, got 'yes'"),
        ("sequence_step", -1, "'sequence_step' of at least 1, got -1"),
        ("sequence_start", 1, "'sequence_start' as a bool_param"),
        ("seed", True, "'seed' as an int64_param or a uint64_param, got True"),
        ("seed", -1, "'seed' between 0 and"),
        ("timeout", -1, "'timeout' of at least 0"),
        ("timeout", 0.5, "'timeout' as an int64_param"),
        ("priority", -1, "'priority' of at least 0"),
        ("sequence_id", True, "'sequence_id' as an int64_param, a uint64_param or a string_param"),
    ],
)
def test_known_parameters_of_the_wrong_kind_are_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        read(**{name: value})
