"""Answers: always raw, since the clients in use take typed outputs for none at all.

Answers to the same kind of question differ in nothing but their elements, so what else they hold is written once and
then copied, at a third of the price.
"""

from __future__ import annotations

from services.gateway.requests.request import Request
from services.gateway.requests.versions import Version
from services.gateway.serving.inference.datatypes import DATATYPE_NAMES
from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import inference_pb2
from steersman.quoting import quoted, quoted_names

_FINAL = "triton_final_response"
_MAX_TEMPLATES = 1024


def check_outputs(version: Version, names: tuple[str, ...]) -> None:
    """Refuses to promise outputs that a version does not have.

    Raises:
        InvalidArgumentError: If there is such a name, or one is there twice.
    """
    known = [*(entry.name for entry in version.action), *version.extras]
    for name in names:
        if name not in known:
            raise InvalidArgumentError(f"expected outputs among {known}, got {quoted(name)}")
    if len(set(names)) != len(names):
        raise InvalidArgumentError(f"expected each output once, got {quoted_names(names)}")


class ResponseWriter:
    """Writes answered requests.

    Args:
        final: Whether answers say that they are the last to their request, as those of a stream do.
    """

    def __init__(self, *, final: bool) -> None:
        self._final = final
        # By a version's identity, wanted outputs and size. The version is kept too, so that nothing takes its place.
        self._templates: dict[
            tuple[int, tuple[str, ...], int], tuple[Version, inference_pb2.ModelInferResponse, tuple[int, ...]]
        ] = {}

    def write(
        self, request: Request, names: tuple[str, ...], request_id: str, response: inference_pb2.ModelInferResponse
    ) -> None:
        """Writes an answered request.

        Args:
            request: The request; it must have been answered.
            names: The outputs that are wanted; empty for all of the action.
            request_id: What its client calls it.
            response: Empty so far.
        """
        key = (id(request.version), names, request.size if request.batched else 0)
        found = self._templates.get(key)
        if found is None:
            if len(self._templates) >= _MAX_TEMPLATES:
                self._templates.clear()
            found = self._templates[key] = (request.version, *self._template(request, names))
        _, template, indices = found
        response.CopyFrom(template)
        response.id = request_id
        response.raw_output_contents.extend([request.outputs[index] for index in indices])

    def _template(
        self, request: Request, names: tuple[str, ...]
    ) -> tuple[inference_pb2.ModelInferResponse, tuple[int, ...]]:
        """Writes all but the elements, and tells where those are among the request's outputs."""
        version = request.version
        computed = version.outputs(request.options)
        index_of = {entry.name: index for index, entry in enumerate(computed)}
        indices = tuple(index_of[name] for name in names) if names else tuple(range(len(version.action)))
        response = inference_pb2.ModelInferResponse(model_name=request.policy, model_version=str(version.number))
        if self._final:
            response.parameters[_FINAL].bool_param = True
        for index in indices:
            entry = computed[index]
            shape = (request.size, *entry.shape) if request.batched else entry.shape
            response.outputs.add(name=entry.name, datatype=DATATYPE_NAMES[entry.dtype], shape=shape)
        return response, indices
