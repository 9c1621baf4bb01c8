"""The bundle: one version of a policy on disk, as `manifest.json` and `model.onnx`.

The model's inputs carry the wire names and dtypes of the policy's observation tensors, its outputs those of its action
tensors, each with a leading batch axis; likewise its state tensors, for a policy with memory. So whoever can run ONNX
can serve a bundle, without torch, RLlib or pickle.
Preprocessing (connectors) and postprocessing (the greedy action, clipping, unsquashing) are part of the graph.

A bundle may come from anybody: nothing in it is executed or unpickled, and nothing outside of its folder is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from services.common.bundle_files import MANIFEST, MAX_MANIFEST_BYTES, MAX_MODEL_BYTES, MODEL
from services.common.files import read_bounded, write_whole
from services.common.manifest import FORMAT, read_manifest
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

__all__ = [
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "MAX_MODEL_BYTES",
    "MODEL",
    "NEXT_STATE_PREFIX",
    "Bundle",
    "read_bundle",
    "write_bundle",
]

NEXT_STATE_PREFIX = "next_"
"""The output that holds the next value of state tensor `name` is called `next_name`."""


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

    def read_model(self) -> bytes:
        """Reads the model and checks its hash: what is loaded must be the very bytes that were checked.

        Raises:
            InvalidArgumentError: If it is missing, too large, no regular file, or not what the manifest is about.
        """
        model = read_bounded(self.model_path, MAX_MODEL_BYTES, inside=self.folder)
        digest = hashlib.sha256(model).hexdigest()
        if digest != self.spec.model_sha256:
            raise InvalidArgumentError(f"expected SHA-256 {self.spec.model_sha256} of {self.model_path}, got {digest}")
        return model


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
    # The manifest last: a folder that has one is whole.
    write_whole(folder / MODEL, model)
    write_whole(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return Bundle(folder, complete, provenance)


def read_bundle(folder: Path) -> Bundle:
    """Reads a bundle and checks it.

    Args:
        folder: Where it lies.

    Raises:
        InvalidArgumentError: If a file is missing, too large, not what it should be, or does not match its hash.
    """
    path = folder / MANIFEST
    spec, provenance = read_manifest(read_bounded(path, MAX_MANIFEST_BYTES, inside=folder), path)
    bundle = Bundle(folder, spec, provenance)
    bundle.read_model()
    return bundle
