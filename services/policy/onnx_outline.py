"""As much of ONNX's protobuf format as is needed to leave an output out of a model, without the onnx package."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto


def without_output(model: bytes, name: str) -> bytes:
    """Leaves an output out of a model, so that onnxruntime drops what is computed for it alone.

    onnxruntime computes every output of a model, whichever are asked for.

    Args:
        model: A serialised ONNX model.
        name: The output.
    """
    outline = _MODEL()
    outline.ParseFromString(model)
    kept = [output for output in outline.graph.output if output.name != name]
    del outline.graph.output[:]
    outline.graph.output.extend(kept)
    serialised: bytes = outline.SerializeToString()
    return serialised


def _outline() -> Any:  # noqa: ANN401 - a message class that is made here
    """Makes the message class: all fields that it does not name are kept as they are.

    The numbers are those of onnx.proto: ModelProto.graph is 7, GraphProto.output is 12, ValueInfoProto.name is 1.
    """
    package = "steersman.onnx_outline"
    file = descriptor_pb2.FileDescriptorProto(name="onnx_outline.proto", package=package, syntax="proto2")
    model, graph, value = (file.message_type.add(name=name) for name in ("Model", "Graph", "Value"))
    optional, message = _FIELD.LABEL_OPTIONAL, _FIELD.TYPE_MESSAGE
    model.field.add(name="graph", number=7, label=optional, type=message, type_name=f".{package}.Graph")
    graph.field.add(name="output", number=12, label=_FIELD.LABEL_REPEATED, type=message, type_name=f".{package}.Value")
    value.field.add(name="name", number=1, label=optional, type=_FIELD.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Model"))


_MODEL = _outline()
