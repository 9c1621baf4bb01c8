"""Environments of this folder's tests; importing this module registers them, also in the evaluator's workers."""

from __future__ import annotations

import gymnasium

gymnasium.register("Gripping-v0", "tests.nested_bundle:Gripping")
