"""Environments of the tests of this folder; importing this module registers them, in the evaluator's workers as well."""

from __future__ import annotations

import gymnasium

gymnasium.register("Gripping-v0", "tests.nested_bundle:Gripping")
