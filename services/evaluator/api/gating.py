"""The gate: whether a version may take the place of another one, on evidence that it is better."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc

from services.evaluator.api import requests
from services.evaluator.api.comparing import compare
from services.evaluator.api.contestants import gateway_named, resolve
from services.evaluator.judge.archive import Archive
from services.evaluator.judge.fresh_seeds import fresh_seed
from steersman.aio import PolicyInfo, open_channel
from steersman.environments.choice import described
from steersman.errors import (
    ConnectionLostError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
    from_rpc_error,
)
from steersman.policy_names import parse_address
from steersman.quoting import quoted
from steersman.settings import settings
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, evaluator_pb2, trainer_pb2

EPISODES = 640
"""The most that each plays, if the request does not say."""

_LOADED_SECONDS = 120.0
_KNOWN_SECONDS = 5.0
"""So long a gateway may take to hear of a version that another one was told of."""

_POLL_SECONDS = 0.5
_LONGEST_REASON = 1000
"""Characters of a reason that the audit trail takes."""

_LONGEST_PLACE = 300
_CALL_SECONDS = 30.0

_VERDICTS = {
    evaluator_pb2.VERDICT_BETTER: "better",
    evaluator_pb2.VERDICT_WORSE: "worse",
    evaluator_pb2.VERDICT_UNCLEAR: "can't tell yet",
}


async def pass_gate(
    request: evaluator_pb2.GateRequest, defaults: requests.Defaults, keep: Archive | None
) -> AsyncGenerator[evaluator_pb2.EvaluationProgress | evaluator_pb2.GateDecision]:
    """Judges a candidate.

    Args:
        request: What is to take the place of what.
        defaults: What the request leaves open.
        keep: Where comparisons are kept; None for nowhere.

    Yields:
        How far the comparison is, and at last the decision.

    Raises:
        SteersmanError: See `EvaluatorService.Gate` in the protos.
    """
    candidate = parse_address(request.candidate)
    if not candidate.version and not candidate.alias:
        raise InvalidArgumentError(
            f"expected what is to be promoted, like {candidate.policy}:8 or {candidate.policy}@candidate, got "
            f"{quoted(request.candidate)}"
        )
    if not request.than:
        raise InvalidArgumentError("expected what the candidate has to be better than, like champion or 7, got nothing")
    baseline = f"{candidate.policy}{':' if request.than.isdecimal() else '@'}{request.than}"
    parse_address(baseline)
    with gateway_named(defaults.gateway_address):
        # Before anything is resolved: what is changed from here on is not what the decision is about.
        deployment = await _deployment(candidate.policy, defaults.gateway_address)
        info = await _loaded(request.candidate, defaults.gateway_address)
        decision = evaluator_pb2.GateDecision(
            policy=info.name, version=info.version, revision=deployment.revision if deployment else 0
        )
        is_first = deployment is not None and not request.than.isdecimal() and request.than not in deployment.aliases
        if is_first and request.passes_if_first:
            decision.passed, decision.reason = True, f"there was no {request.than} yet"
            yield decision
            return
        champion = await _loaded(baseline, defaults.gateway_address)
    if (info.name, info.version) == (champion.name, champion.version):
        raise InvalidArgumentError(
            f"expected a candidate that is not {quoted(request.than)} already, got {info.name}:{info.version}"
        )
    asked = _comparison(request, info, champion)
    async with aclosing(compare(asked, defaults, keep)) as events:
        async for event in events:
            if isinstance(event, evaluator_pb2.EvaluationProgress):
                yield event
            else:
                decision.comparison.CopyFrom(event)
    decision.passed = decision.comparison.verdict == evaluator_pb2.VERDICT_BETTER
    decision.reason = reason_of(decision.comparison)
    yield decision


def reason_of(comparison: evaluator_pb2.Comparison) -> str:
    """Writes the numbers of a comparison for the audit trail, in one sentence."""
    policy, baseline, interval = comparison.policy, comparison.baseline, comparison.difference_interval
    environment = trainer_pb2.Environment(
        id=policy.environment_id, kwargs_json=policy.environment_kwargs_json, wrappers=policy.wrappers
    )
    place = described(environment)
    if len(place) > _LONGEST_PLACE:
        place = f"{place[:_LONGEST_PLACE]}..."
    reason = (
        f"{policy.policy}:{policy.version} against {baseline.policy}:{baseline.version} in {place}: "
        f"{_VERDICTS[comparison.verdict]}; difference {comparison.difference:+.3g} (interval {interval.low:+.3g} to "
        f"{interval.high:+.3g}) over {comparison.pairs} episodes on the same seeds from {comparison.seed} on, mean "
        f"returns {policy.mean:.2f} and {baseline.mean:.2f}"
    )
    notes = [note for note in (policy.environment_difference, baseline.environment_difference) if note]
    if notes:
        reason += f" ({'; '.join(notes)})"
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 3]}..."


def _comparison(
    request: evaluator_pb2.GateRequest, info: PolicyInfo, champion: PolicyInfo
) -> evaluator_pb2.CompareRequest:
    """Writes the comparison, of versions: an alias may move meanwhile."""
    asked = evaluator_pb2.CompareRequest(
        policy=f"{info.name}:{info.version}",
        baseline=f"{champion.name}:{champion.version}",
        episodes=request.episodes if request.HasField("episodes") else EPISODES,
        sequential=True,
        error_rate=request.error_rate,
        return_bounds=request.return_bounds if request.HasField("return_bounds") else None,
        environment_id=request.environment.id,
        environment_kwargs=request.environment.kwargs,
        environment_kwargs_json=request.environment.kwargs_json,
        environment_as_given=request.environment_as_given,
        wrappers=request.environment.wrappers,
        code=request.code if request.HasField("code") else None,
        seed=request.seed,
        longest_episode_steps=request.longest_episode_steps,
        longest_seconds=request.longest_seconds,
    )
    if not request.HasField("seed"):
        asked.seed = fresh_seed((info.spec, champion.spec), requests.number_of_episodes(asked))
    return asked


async def _deployment(policy: str, gateway_address: str) -> deployment_pb2.Deployment | None:
    """Finds what is wanted of a policy; None if it is served without being deployed."""
    try:
        async with open_channel(settings().connection(gateway_address)) as channel:
            stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            listed = await stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None
    return next((deployment for deployment in listed.deployments if deployment.policy == policy), None)


async def _loaded(address: str, gateway_address: str) -> PolicyInfo:
    """Waits until a replica has loaded a version.

    Raises:
        NotFoundError: If there is no such version or alias.
        UnavailableError: If it takes too long.
    """
    began = time.monotonic()
    while True:
        try:
            return await resolve(address, gateway_address)
        except (UnreachableError, ConnectionLostError):
            raise
        except UnavailableError as error:
            if time.monotonic() - began > _LOADED_SECONDS:
                raise UnavailableError(f"no replica has loaded {address} in {_LOADED_SECONDS:g} s: {error}") from error
        except NotFoundError:
            if time.monotonic() - began > _KNOWN_SECONDS:
                raise
        await asyncio.sleep(_POLL_SECONDS)
