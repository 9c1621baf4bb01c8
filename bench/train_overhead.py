"""How long it takes from asking for a run to its first iteration, with the services and without."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.systems.system import free_address
from deploy import stack
from steersman.client import open_channel
from steersman.settings import Settings
from steersman.v1 import trainer_pb2, trainer_pb2_grpc

BARE_SCRIPT = "bare-script"

_SCRIPT = """
import tempfile
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.tune.trainable import trainable

trainable.DEFAULT_STORAGE_PATH = tempfile.mkdtemp()
ray.init(address="local", _node_ip_address="127.0.0.1", log_to_driver=False)
config = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0, num_envs_per_env_runner=32)
config.training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=8)
config.build_algo().train()
print("iteration", flush=True)
"""


def seconds_to_first_iteration(turns: int, tell: Callable[[str], None]) -> Iterator[tuple[str, float]]:
    """Measures both, taking turns.

    Args:
        turns: How often.
        tell: Told what happens.
    """
    with tempfile.TemporaryDirectory(prefix="sm-", dir="/tmp") as folder:
        settings = _settings(Path(folder))
        tell("starting the services")
        stack.start(settings)
        try:
            for turn in range(1, turns + 1):
                tell(f"turn {turn} of {turns}: steersman's first iteration")
                yield "steersman", _through_the_services(settings, turn)
                tell(f"turn {turn} of {turns}: a bare script's first iteration")
                yield BARE_SCRIPT, _without_them()
        finally:
            stack.stop(settings)


def _through_the_services(settings: Settings, seed: int) -> float:
    spec = trainer_pb2.RunSpec(
        policy="bench",
        environment=trainer_pb2.Environment(id="CartPole-v1"),
        algorithm="PPO",
        seed=seed,
        stop=trainer_pb2.StopCriteria(seconds=3600),
    )
    with open_channel(settings.connection(settings.trainer_address)) as channel:
        stub = trainer_pb2_grpc.TrainerServiceStub(channel)
        began = time.perf_counter()
        run = stub.StartRun(trainer_pb2.StartRunRequest(spec=spec)).run
        for news in stub.WatchRun(trainer_pb2.WatchRunRequest(id=run.id)):
            if news.HasField("iteration"):
                break
        else:
            raise RuntimeError("expected an iteration, the run ended before its first one")
        took = time.perf_counter() - began
        stub.StopRun(trainer_pb2.StopRunRequest(id=run.id))
    return took


def _without_them() -> float:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        said = [line for line in process.stdout if "iteration" in line]
        took = time.perf_counter() - began
    if not said:
        raise RuntimeError("the bare script failed")
    return took


def _settings(var_dir: Path) -> Settings:
    names = (
        "gateway_address",
        "gateway_replica_address",
        "trainer_address",
        "evaluator_address",
        "ray_address",
        "serve_http_address",
    )
    addresses = {name: free_address() for name in names}
    urls = {name: f"http://{free_address()}" for name in ("mlflow_url", "ray_dashboard_url")}
    return Settings.model_validate({"var_dir": var_dir, **addresses, **urls})
