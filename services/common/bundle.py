"""The bundle: one version of a policy on disk, as `manifest.json` and `model.onnx`.

The model's inputs carry the wire names and dtypes of the policy's observation tensors, its outputs those of its action
tensors, each with a leading batch axis; likewise its state tensors, for a policy with memory. So whoever can run ONNX
can serve a bundle, without torch, RLlib or pickle.
Preprocessing (connectors) and postprocessing (the greedy action, clipping, unsquashing) are part of the graph.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

MANIFEST = "manifest.json"
MODEL = "model.onnx"
NEXT_STATE_PREFIX = "next_"
"""The output that holds the next value of state tensor `name` is called `next_name`."""

FORMAT = 1
"""Version of the bundle's format. A reader refuses any other."""

MAX_MANIFEST_BYTES = 1024 * 1024
MAX_MODEL_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read and checked.

    Attributes:
        folder: Where it lies.
        spec: What the policy takes and gives.
        provenance: Where it comes from: run, settings, versions of packages. For people, not for the runtime.
    """

    folder: Path
    spec: common_pb2.PolicySpec
    provenance: dict[str, Any]

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.folder / MODEL


def write_bundle(folder: Path, model: bytes, spec: common_pb2.PolicySpec, provenance: dict[str, Any]) -> Bundle:
    """Writes a bundle.

    Args:
        folder: Where to; made if it does not exist.
        model: The serialised ONNX model.
        spec: What the policy takes and gives; its `model_sha256` is filled in here.
        provenance: See `Bundle`; JSON values.
    """
    complete = common_pb2.PolicySpec()
    complete.CopyFrom(spec)
    complete.model_sha256 = hashlib.sha256(model).hexdigest()
    manifest = {
        "format": FORMAT,
        "spec": json_format.MessageToDict(complete, preserving_proto_field_name=True),
        "provenance": provenance,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL).write_bytes(model)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return Bundle(folder, complete, provenance)


def read_bundle(folder: Path) -> Bundle:
    """Reads a bundle and checks it; nothing in it is executed.

    Args:
        folder: Where it lies.

    Raises:
        InvalidArgumentError: If a file is missing, too large, not what it should be, or does not match its hash.
    """
    manifest = _read_manifest(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise InvalidArgumentError(f"expected a bundle of format {FORMAT} in {folder}, got {manifest.get('format')!r}")
    spec = common_pb2.PolicySpec()
    try:
        json_format.ParseDict(manifest["spec"], spec)
        provenance = dict(manifest["provenance"])
    except (KeyError, TypeError, ValueError, json_format.ParseError) as error:
        raise InvalidArgumentError(f"{folder / MANIFEST} is not a bundle's manifest: {error}") from error
    digest = hashlib.sha256(_read_bounded(folder / MODEL, MAX_MODEL_BYTES)).hexdigest()
    if digest != spec.model_sha256:
        raise InvalidArgumentError(f"expected SHA-256 {spec.model_sha256} of {folder / MODEL}, got {digest}")
    return Bundle(folder, spec, provenance)


def _read_manifest(path: Path) -> dict[str, Any]:
    text = _read_bounded(path, MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise InvalidArgumentError(f"{path} is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise InvalidArgumentError(f"expected a JSON object in {path}, got {type(manifest).__name__}")
    return manifest


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise InvalidArgumentError(f"expected at most {limit} bytes in {path}, got {size}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {path}: {error.strerror}") from error
