"""Whether a route makes sense for its versions: a request may go to any of them, and a copy to the shadow."""

from __future__ import annotations

from collections.abc import Mapping

from services.gateway.dispatch.routes import Route
from services.gateway.requests.compatibility import are_compatible, describe_interface
from steersman.errors import FailedPreconditionError
from steersman.v1 import common_pb2


def check_route(policy: str, route: Route, specs: Mapping[int, common_pb2.PolicySpec]) -> None:
    """Checks a route over several versions.

    Args:
        policy: The policy.
        route: The route.
        specs: What its versions take and give, as far as that is known. What is not, the dispatcher sees once replicas
            have loaded it: it gets no traffic then, and its deployment says why.

    Raises:
        FailedPreconditionError: If versions differ in more than the bounds of their spaces, or there is a shadow and
            one of them has memory.
    """
    known = {version: specs[version] for version in sorted(route.versions) if version in specs}
    if route.shadow is not None:
        for version, spec in known.items():
            if spec.state_tensors:
                raise FailedPreconditionError(
                    f"expected versions without memory for a shadow of policy {policy!r}, but version {version} has "
                    "some: a shadow would need the state of episodes that it never played"
                )
    main = route.main_version if route.main_version in known else next(iter(known), 0)
    for version, spec in known.items():
        if not are_compatible(known[main], spec):
            raise FailedPreconditionError(
                f"expected one route of policy {policy!r} over versions with the same spaces but for bounds, got "
                f"version {main} with {describe_interface(known[main])}, and version {version} with "
                f"{describe_interface(spec)}; one can replace the other as a whole: deploy or promote it"
            )
