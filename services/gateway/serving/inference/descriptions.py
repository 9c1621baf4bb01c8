"""Policies as the protocol describes models."""

from __future__ import annotations

from collections.abc import Iterable

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.requests.observations import TensorFormat
from services.gateway.requests.versions import Version
from services.gateway.serving.inference.datatypes import DATATYPE_NAMES, MODEL_DATA_TYPES
from steersman.inference.v1 import inference_pb2, model_config_pb2

_PLATFORM = "onnxruntime_onnx"
_BACKEND = "onnxruntime"
_BATCH_AXIS = -1


def metadata(dispatcher: Dispatcher, version: Version, *, only: bool) -> inference_pb2.ModelMetadataResponse:
    """Describes a version's inputs and outputs.

    Args:
        dispatcher: The policy's.
        version: The version.
        only: Whether to list this version alone, and not all that are loaded.
    """
    return inference_pb2.ModelMetadataResponse(
        name=dispatcher.policy,
        versions=[str(number) for number in ([version.number] if only else dispatcher.versions)],
        platform=_PLATFORM,
        inputs=_tensors(version.observation),
        outputs=_tensors((*version.action, *version.extras.values())),
    )


def config(dispatcher: Dispatcher, version: Version, session_idle_seconds: float) -> model_config_pb2.ModelConfig:
    """Describes a version in Triton's words.

    Args:
        dispatcher: The policy's.
        version: The version.
        session_idle_seconds: How long a session may be idle.
    """
    replicas = [entry for entry in dispatcher.attachments if version.number in entry.versions]
    message = model_config_pb2.ModelConfig(
        name=dispatcher.policy,
        platform=_PLATFORM,
        backend=_BACKEND,
        max_batch_size=max((entry.max_batch_size for entry in replicas), default=1),
        input=[
            model_config_pb2.ModelInput(name=entry.name, data_type=MODEL_DATA_TYPES[entry.dtype], dims=entry.shape)
            for entry in version.observation
        ],
        output=[
            model_config_pb2.ModelOutput(name=entry.name, data_type=MODEL_DATA_TYPES[entry.dtype], dims=entry.shape)
            for entry in (*version.action, *version.extras.values())
        ],
        model_transaction_policy=model_config_pb2.ModelTransactionPolicy(decoupled=False),
    )
    if version.state:
        message.sequence_batching.max_sequence_idle_microseconds = int(session_idle_seconds * 1e6)
    else:
        delay = max((entry.max_queue_delay for entry in replicas), default=0.0)
        message.dynamic_batching.max_queue_delay_microseconds = int(delay * 1e6)
    return message


def _tensors(formats: Iterable[TensorFormat]) -> list[inference_pb2.ModelMetadataResponse.TensorMetadata]:
    return [
        inference_pb2.ModelMetadataResponse.TensorMetadata(
            name=entry.name, datatype=DATATYPE_NAMES[entry.dtype], shape=(_BATCH_AXIS, *entry.shape)
        )
        for entry in formats
    ]
