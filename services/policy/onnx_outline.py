"""As much of ONNX's protobuf format as serving needs, without the onnx package."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

_EXTERNAL = 1
"""TensorProto.DataLocation.EXTERNAL"""

_FIELDS = {
    "Model": {
        "ir_version": (1, "int64", False),
        "graph": (7, "Graph", False),
        "opset_import": (8, "Opset", True),
        "functions": (25, "Function", True),
    },
    "Opset": {"domain": (1, "string", False), "version": (2, "int64", False)},
    "Graph": {
        "node": (1, "Node", True),
        "initializer": (5, "Tensor", True),
        "output": (12, "Value", True),
        "sparse_initializer": (15, "SparseTensor", True),
    },
    "Function": {"node": (7, "Node", True)},
    "Node": {"op_type": (4, "string", False), "attribute": (5, "Attribute", True)},
    "Attribute": {
        "t": (5, "Tensor", False),
        "g": (6, "Graph", False),
        "tensors": (10, "Tensor", True),
        "graphs": (11, "Graph", True),
        "sparse_tensor": (22, "SparseTensor", False),
        "sparse_tensors": (23, "SparseTensor", True),
    },
    "SparseTensor": {"values": (1, "Tensor", False), "indices": (2, "Tensor", False)},
    "Tensor": {"dims": (1, "int64", True), "data_location": (14, "int32", False)},
    "Value": {"name": (1, "string", False)},
}
"""For each message the fields that are looked at: number in onnx.proto, type, whether repeated. All others are kept as
they are."""


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


def check_self_contained(model: bytes, path: Path) -> None:
    """Checks that a model reads no other file: ONNX lets tensors lie anywhere on the machine that loads them.

    Args:
        model: A serialised ONNX model.
        path: Where it was read, for messages.

    Raises:
        InvalidArgumentError: If it would read another file, or is no ONNX model.
    """
    outline = _MODEL()
    try:
        outline.ParseFromString(model)
    except message.DecodeError as error:
        raise InvalidArgumentError(f"cannot load {path}: it is no ONNX model") from error
    if any(tensor.data_location == _EXTERNAL for tensor in _tensors(outline)):
        raise InvalidArgumentError(
            f"expected a model that holds all of its weights in {path}, got one with other files"
        )


def describe_model(model: bytes) -> common_pb2.ModelDescription:
    """Says what a model is made of.

    Args:
        model: A serialised ONNX model.
    """
    outline = _MODEL()
    outline.ParseFromString(model)
    kinds = Counter(node.op_type for node in outline.graph.node)
    return common_pb2.ModelDescription(
        bytes=len(model),
        parameters=sum(math.prod(weights.dims) for weights in outline.graph.initializer),
        ir_version=outline.ir_version,
        opset_version=max([opset.version for opset in outline.opset_import if not opset.domain], default=0),
        operators=[common_pb2.Operator(name=name, count=count) for name, count in kinds.most_common()],
    )


def _tensors(found: Any) -> Iterator[Any]:  # noqa: ANN401 - a message of any of the kinds above
    """Gives all tensors inside of a message, those of nested graphs too."""
    if found.DESCRIPTOR.name == "Tensor":
        yield found
    for field, value in found.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _tensors(part)


def _outline() -> Any:  # noqa: ANN401 - a message class that is made here
    package = "steersman.onnx_outline"
    field = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": field.TYPE_STRING, "int32": field.TYPE_INT32, "int64": field.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="onnx_outline.proto", package=package, syntax="proto2")
    for kind, fields in _FIELDS.items():
        described = file.message_type.add(name=kind)
        for name, (number, of, repeated) in fields.items():
            added = described.field.add(name=name, number=number)
            added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            added.type = scalars.get(of, field.TYPE_MESSAGE)
            if of not in scalars:
                added.type_name = f".{package}.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Model"))


_MODEL = _outline()
