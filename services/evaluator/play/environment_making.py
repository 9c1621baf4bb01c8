"""Makes environments, and checks that they are those of a policy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from services.evaluator.play.disturbances import Disturbance, disturbed
from services.evaluator.workers.user_code import LocalCode
from steersman import spaces
from steersman.arguments import kwargs_of, set_kwargs
from steersman.environments.making import Environment, make_environment
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2, trainer_pb2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """What environments are made from.

    Attributes:
        environment: Its id, keyword arguments for `gymnasium.make`, and wrappers.
        code: The user's own code.
        modules: What registers environments of one's own.
        disturbance: What makes it harder; None for nothing.
        rendered: Whether it is drawn.
    """

    environment: trainer_pb2.Environment
    code: LocalCode = field(default_factory=LocalCode)
    modules: tuple[str, ...] = ()
    disturbance: Disturbance | None = None
    rendered: bool = False


def make_environments(
    recipe: Recipe, count: int, into: list[Environment], pulse: Callable[[], None] = lambda: None
) -> None:
    """Makes environments of one kind.

    Args:
        recipe: What from; its code can be imported already.
        count: How many.
        into: Where they are put, each as soon as it is made, so that whoever gives up half-way can close them.
        pulse: Called before each.

    Raises:
        InvalidArgumentError: If the id is unknown, or the environment does not take the arguments, a wrapper or the
            disturbance.
        FailedPreconditionError: If it needs a package that is not installed.
    """
    for _ in range(count):
        pulse()
        into.append(_made(recipe))


def _made(recipe: Recipe) -> Environment:
    environment = recipe.environment
    if recipe.rendered:
        environment = trainer_pb2.Environment()
        environment.CopyFrom(recipe.environment)
        set_kwargs(environment, kwargs_of(environment) | {"render_mode": "rgb_array"})
    made = make_environment(environment)
    return disturbed(made, recipe.disturbance) if recipe.disturbance else made


def close_environments(environments: list[Environment]) -> None:
    """Closes environments, all of them even if one cannot be closed."""
    for environment in environments:
        try:
            environment.close()  # type: ignore[no-untyped-call] # gymnasium leaves it out
        except Exception:  # noqa: BLE001 - it is logged, and the others still have to be closed
            _log.exception("cannot close %s", environment)


def check_spaces(environment: Environment, spec: common_pb2.PolicySpec) -> None:
    """Checks that an environment has the spaces of a policy.

    Raises:
        InvalidArgumentError: If a space differs, or is of a kind that cannot travel.
    """
    for name, space, expected in (
        ("observation", environment.observation_space, spec.observation_space),
        ("action", environment.action_space, spec.action_space),
    ):
        got = spaces.from_gymnasium(space)
        if got != expected:
            raise InvalidArgumentError(
                f"expected an environment with {name} space {spaces.describe(expected)}, as the policy has, "
                f"got {spaces.describe(got)}"
            )
