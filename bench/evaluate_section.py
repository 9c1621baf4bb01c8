"""Section `evaluate`: an evaluation through the gateway, against the policy in-process and against HTTP."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import gymnasium
import numpy as np
import onnxruntime

from bench.loads import LOADS
from bench.models import CARTPOLE, Models, write_cartpole, write_image
from bench.plan import Plan
from bench.results import Row, Samples
from bench.systems.ray_serve import APPS, DEFAULT_POLLING, RayServe
from bench.systems.steersman import Steersman
from bench.targets import Target
from services.common.episodes import Act, Rollout, Step
from services.evaluator.play.environment_making import Recipe, close_environments, make_environments
from services.evaluator.play.evaluation import Arena, Result, play
from services.evaluator.play.players import Contestant
from steersman import spaces
from steersman.aio import PolicyClient
from steersman.environments.making import Environment
from steersman.v1 import trainer_pb2

SECTION = "evaluate"
LOAD = "cartpole-64"
SYSTEMS = ("steersman", "in-process", "http")

_ENVIRONMENT = "CartPole-v1"
_RECIPE = Recipe(trainer_pb2.Environment(id=_ENVIRONMENT))
_ENVIRONMENTS = 64
_METRIC = "steps_per_s"
_MANY_EPISODES = 10_000_000

TARGETS = (
    Target(LOAD, _METRIC, "in-process", 0.6),
    Target(LOAD, _METRIC, "http", 20.0),
)

NOTES = (
    "64 CartPole environments, stepped in one process by the evaluator's own loop, with the same policy of 4-64-64-2.",
    "steersman: a worker of the evaluator, a gateway and a replica, as plain processes; from its first news on.",
    "in-process: the model in onnxruntime with one thread, in the process of the environments, 64 in a batch.",
    "http: one request with JSON for each action, 64 at once, to Ray Serve with its defaults and a policy in torch.",
)


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section.

    Args:
        plan: What to measure.
        tell: Told what happens.
    """
    samples = Samples(SECTION)
    if plan.loads and LOAD not in plan.loads:
        return []
    measures = {"steersman": _through_the_gateway, "in-process": _in_process, "http": _over_http}
    space = gymnasium.make(_ENVIRONMENT).observation_space
    with tempfile.TemporaryDirectory() as folder:
        box = spaces.from_gymnasium(space).box
        models = Models(write_cartpole(Path(folder) / CARTPOLE, box), write_image(Path(folder) / "image"))
        for turn in range(1, plan.turns + 1):
            for system, measure in measures.items():
                if not plan.systems or system in plan.systems:
                    tell(f"turn {turn} of {plan.turns}: {system}")
                    samples.add(LOAD, system, _METRIC, measure(models, plan.seconds))
    return samples.rows()


def _through_the_gateway(models: Models, seconds: float) -> float:
    system = Steersman()
    try:
        system.start(models)
        return asyncio.run(_evaluate(system.target(LOADS["unary-1"]), seconds))
    finally:
        system.stop()


async def _evaluate(address: str, seconds: float) -> float:
    """Evaluates until the time is over, and gives the steps per second from the first news on."""
    async with PolicyClient(CARTPOLE, address=address) as client:
        info = await client.describe()
    policy = f"{info.name}:{info.version}"
    result = Result(Contestant(policy, info.spec.SerializeToString(), policy))
    arena = Arena(address, _RECIPE, 0, _ENVIRONMENTS, 1, seconds + 60)
    began, before = 0.0, 0
    async with aclosing(play(arena, [result], range(_MANY_EPISODES))) as news:
        async for _ in news:
            now = time.perf_counter()
            if not began and result.steps:
                began, before = now, result.steps
            elif began and now - began >= seconds:
                return (result.steps - before) / (now - began)
    raise RuntimeError(f"expected an evaluation of {seconds:g} s, but it ended earlier")


def _in_process(models: Models, seconds: float) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(models.cartpole.model_path, options, providers=["CPUExecutionProvider"])

    async def act(step: Step) -> Sequence[Any]:
        (actions,) = session.run([spaces.ACTION], {spaces.OBSERVATION: np.stack(step.observations)})
        taken: Sequence[Any] = actions
        return taken

    return asyncio.run(_step(act, seconds))


def _over_http(models: Models, seconds: float) -> float:
    system = RayServe("http", f"{APPS}:http_torch", http=True, variables=DEFAULT_POLLING)
    try:
        system.start(models)
        url = system.target(LOADS["unary-1"])
        if url is None:
            raise RuntimeError("expected Ray Serve to take HTTP")
        return asyncio.run(_ask_one_by_one(url, seconds))
    finally:
        system.stop()


async def _ask_one_by_one(url: str, seconds: float) -> float:
    connector = aiohttp.TCPConnector(limit=_ENVIRONMENTS)
    async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as session:

        async def one(observation: np.ndarray[Any, Any]) -> int:
            async with session.post(url, json={"array": observation.tolist()}) as response:
                return int((await response.json())["action"])

        async def act(step: Step) -> Iterable[Any]:
            return await asyncio.gather(*(one(observation) for observation in step.observations))

        return await _step(act, seconds)


async def _step(act: Act, seconds: float) -> float:
    """Steps the environments until the time is over, and gives the steps per second."""
    environments: list[Environment] = []
    try:
        make_environments(_RECIPE, _ENVIRONMENTS, environments)
        rollout = Rollout(environments, range(_MANY_EPISODES), 0)
        began = time.perf_counter()
        async with aclosing(rollout.play(act)) as steps:
            async for _ in steps:
                elapsed = time.perf_counter() - began
                if elapsed >= seconds:
                    return rollout.steps / elapsed
    finally:
        close_environments(environments)
    raise RuntimeError(f"expected {seconds:g} s of steps, but they ended earlier")
