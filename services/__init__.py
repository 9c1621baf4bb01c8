"""Steersman's services. Each one is a folder and a process; they meet only through the protos."""

import os

# gRPC's EventEngine, the default since 1.7x, hands each message from threads of its own to the one that waits for it.
# Its earlier way, in which the waiting thread polls the socket itself, takes a third to two thirds off the time of a
# message between two processes (docs/performance.md). gRPC reads this when its first channel or server is made.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

from steersman.addresses import without_proxy_on_loopback

# Libraries that read a proxy from the environment by themselves, such as MLflow's, must not ask it for this machine.
os.environ.update(without_proxy_on_loopback(os.environ))

# onnxruntime tells Microsoft that it is used, from the moment that it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
