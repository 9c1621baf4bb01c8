"""The Ray Serve applications that Steersman is compared with. Imported by Ray Serve's replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gymnasium
import numpy as np
from ray import serve
from ray.serve import Application
from starlette.requests import Request

from bench.systems.floor import InlinePolicy
from steersman.v1 import policy_pb2

MAX_ONGOING_REQUESTS = 1000
"""More than any load has in flight, for every variant. At the default of 5, Ray Serve's router pauses for up to half a
second before it tries again, and 32 callers get 80 answers a second instead of some 350: anybody would raise it."""


class GrpcPolicy:
    """Answers PolicyService behind Ray Serve's own gRPC ingress, one request at a time."""

    def __init__(self, model: str) -> None:
        self._policy = InlinePolicy(model)

    async def Act(self, request: policy_pb2.ActRequest) -> policy_pb2.ActResponse:  # noqa: N802 - the proto's name
        """Answers a request."""
        return self._policy.answer(request)

    async def ActStream(self, requests: Any) -> AsyncIterator[policy_pb2.ActStreamResponse]:  # noqa: ANN401, N802
        """Answers a stream."""
        async for message in requests:
            yield policy_pb2.ActStreamResponse(id=message.id, response=self._policy.answer(message.request))


class TorchPolicy:
    """The usual recipe: JSON over HTTP, and RLlib's module in torch for each request."""

    def __init__(self) -> None:
        import torch
        from ray.rllib.algorithms.ppo.ppo_catalog import PPOCatalog
        from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
        from ray.rllib.core.rl_module.rl_module import RLModuleSpec

        environment = gymnasium.make("CartPole-v1")
        self._torch = torch
        self._module = RLModuleSpec(
            module_class=DefaultPPOTorchRLModule,
            observation_space=environment.observation_space,
            action_space=environment.action_space,
            model_config={"fcnet_hiddens": [64, 64], "fcnet_activation": "tanh"},
            catalog_class=PPOCatalog,
        ).build()

    async def __call__(self, request: Request) -> dict[str, int]:
        """Answers a request."""
        array = np.asarray((await request.json())["array"], np.float32)
        outputs = self._module.forward_inference({"obs": self._torch.from_numpy(array)[None]})
        return {"action": int(outputs["action_dist_inputs"][0].argmax())}


def grpc_defaults(args: dict[str, Any]) -> Application:
    """Builds the application with Ray Serve's defaults but for `MAX_ONGOING_REQUESTS`."""
    return serve.deployment(GrpcPolicy, max_ongoing_requests=MAX_ONGOING_REQUESTS).bind(args["model"])


def grpc_best(args: dict[str, Any]) -> Application:
    """Builds the application with what gave it the best numbers.

    Two replicas, since there is a processor for each, and no log line for each request. No `@serve.batch`: with a model
    this small, batches cost more than they save.
    """
    deployment = serve.deployment(
        GrpcPolicy,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        num_replicas=2,
        logging_config={"enable_access_log": False, "log_level": "ERROR"},
    )
    return deployment.bind(args["model"])


def http_torch(_: dict[str, Any]) -> Application:
    """Builds the application of the usual recipe, with defaults but for `MAX_ONGOING_REQUESTS`."""
    return serve.deployment(TorchPolicy, max_ongoing_requests=MAX_ONGOING_REQUESTS).bind()
