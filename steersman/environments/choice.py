"""Which environment a version is played in: the one that it was trained in, unless whoever asks says otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from steersman.arguments import from_text, in_words, kwargs_of, set_kwargs, to_text
from steersman.errors import InvalidArgumentError
from steersman.quoting import quoted
from steersman.v1 import common_pb2, trainer_pb2

_LONGEST_NAME = 256


def recorded(environment: trainer_pb2.Environment, code_sha256: str, first_seed: int) -> common_pb2.TrainedEnvironment:
    """Writes an environment as a version's spec records it.

    Args:
        environment: Where the version is trained.
        code_sha256: Digest of the code that came along; empty for none.
        first_seed: The seed that training begins with.
    """
    return common_pb2.TrainedEnvironment(
        id=environment.id,
        kwargs_json=to_text(kwargs_of(environment)),
        wrappers=[
            common_pb2.TrainedWrapper(path=wrapper.path, kwargs_json=to_text(kwargs_of(wrapper)))
            for wrapper in environment.wrappers
        ],
        code_sha256=code_sha256 if _may_use_code(environment) else "",
        first_seed=first_seed,
    )


def check_recordable(environment: trainer_pb2.Environment | common_pb2.TrainedEnvironment) -> None:
    """Checks that an environment can be recorded in a version's spec, and played by whoever reads that.

    Raises:
        InvalidArgumentError: If JSON has no word for an argument, a name is too long, or a wrapper is of Python's own
            library: whoever plays the version calls these, and a spec may come from anybody.
    """
    for name in (environment.id, *(wrapper.path for wrapper in environment.wrappers)):
        if len(name) > _LONGEST_NAME:
            raise InvalidArgumentError(
                f"expected names of environments and wrappers of at most {_LONGEST_NAME} characters, got {quoted(name)}"
            )
    for wrapper in environment.wrappers:
        if wrapper.path.partition(":")[0].partition(".")[0] in sys.stdlib_module_names:
            raise InvalidArgumentError(
                f"expected wrappers of Gymnasium, of a package or of your own, got {quoted(wrapper.path)} of Python's "
                "own library"
            )
    for message in (environment, *environment.wrappers):
        if isinstance(message, common_pb2.TrainedEnvironment | common_pb2.TrainedWrapper):
            from_text(message.kwargs_json)
        else:
            kwargs_of(message)


def chosen(
    spec: common_pb2.PolicySpec,
    environment_id: str,
    kwargs: Mapping[str, Any],
    wrappers: Iterable[trainer_pb2.EnvironmentWrapper],
    *,
    as_given: bool = False,
) -> trainer_pb2.Environment:
    """Gives the environment to play a version in.

    Args:
        spec: The version's.
        environment_id: What was asked for; empty for the one that it was trained in.
        kwargs: Arguments that were asked for. They are put over the recorded ones.
        wrappers: Wrappers that were asked for, instead of the recorded ones if there are any.
        as_given: Whether nothing that the spec records is taken but the id.

    Raises:
        InvalidArgumentError: If JSON has no word for an argument.
    """
    given = list(wrappers)
    if takes_recorded(spec, environment_id, as_given=as_given):
        played = trained_in(spec)
        kwargs = kwargs_of(played) | dict(kwargs)
        given = given or list(played.wrappers)
    played = trainer_pb2.Environment(id=environment_id or spec.environment_id, wrappers=given)
    set_kwargs(played, kwargs)
    return played


def takes_recorded(spec: common_pb2.PolicySpec, environment_id: str, *, as_given: bool) -> bool:
    """Tells whether what the spec records of its environment holds for what is played."""
    return not as_given and spec.HasField("environment") and environment_id in ("", spec.environment.id)


def trained_in(spec: common_pb2.PolicySpec) -> trainer_pb2.Environment:
    """Gives the environment that a version was trained in, as far as its spec records it."""
    environment = trainer_pb2.Environment(id=spec.environment_id)
    set_kwargs(environment, from_text(spec.environment.kwargs_json))
    for wrapper in spec.environment.wrappers:
        set_kwargs(environment.wrappers.add(path=wrapper.path), from_text(wrapper.kwargs_json))
    return environment


def difference(name: str, spec: common_pb2.PolicySpec, played: trainer_pb2.Environment, code_sha256: str | None) -> str:
    """Tells in one sentence in what an environment is not the one that a version was trained in; empty if it is.

    Args:
        name: The version's, such as "cartpole:3".
        spec: Its spec.
        played: The environment.
        code_sha256: Digest of the code that it was played with; None if that is not known.
    """
    if not spec.environment_id:
        return f"{name} does not say which environment it was trained in"
    if played.id != spec.environment_id:
        return f"{name} was trained in {spec.environment_id}"
    if not spec.HasField("environment"):
        return f"of the environment that {name} was trained in, its bundle records only the id"
    trained = trained_in(spec)
    differences = []
    ours, theirs = kwargs_of(played), kwargs_of(trained)
    if to_text(_sorted(ours)) != to_text(_sorted(theirs)):
        differences.append(f"with {in_words(theirs) or 'no arguments'}")
    if wrappers_in_words(played.wrappers) != wrappers_in_words(trained.wrappers):
        differences.append(f"in {wrappers_in_words(trained.wrappers) or 'no wrappers'}")
    wanted = spec.environment.code_sha256
    if wanted and code_sha256 is not None and code_sha256 != wanted:
        differences.append(f"with other code (SHA-256 {wanted[:16]}...)")
    return f"{name} was trained {' and '.join(differences)}" if differences else ""


def described(environment: trainer_pb2.Environment) -> str:
    """Writes an environment for people, such as "Pendulum-v1(g=5.0)"."""
    arguments = in_words(kwargs_of(environment))
    wrappers = wrappers_in_words(environment.wrappers)
    return f"{environment.id}{f'({arguments})' if arguments else ''}{f' in {wrappers}' if wrappers else ''}"


def wrappers_in_words(wrappers: Iterable[trainer_pb2.EnvironmentWrapper]) -> str:
    """Writes wrappers for people, the innermost first."""
    return ", ".join(f"{wrapper.path}({in_words(_sorted(kwargs_of(wrapper)))})" for wrapper in wrappers)


def _may_use_code(environment: trainer_pb2.Environment) -> bool:
    """Tells whether an environment may need code that came along, which may as well be for the network alone.

    It does not if all of it is Gymnasium's, and no argument can be the name of a file or of something to import.
    """
    arguments = [kwargs_of(environment), *map(kwargs_of, environment.wrappers)]
    return (
        ":" in environment.id
        or any(wrapper.path.partition(":")[0].partition(".")[0] != "gymnasium" for wrapper in environment.wrappers)
        or _has_text(arguments)
    )


def _has_text(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return any(map(_has_text, value.values()))
    if isinstance(value, list):
        return any(map(_has_text, value))
    return isinstance(value, str)


def _sorted(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(entry) for entry in value] if isinstance(value, list) else value
