"""The files of a bundle, for those who read one of them and need not check all; `bundle` does that."""

from __future__ import annotations

MANIFEST = "manifest.json"
MODEL = "model.onnx"

MAX_MANIFEST_BYTES = 1024 * 1024
MAX_MODEL_BYTES = 2 * 1024**3
