"""The table of what can be exported, made from what the parity tests train. Run as a module, it writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

from tests.integration.services.trainer.combinations import COMBINATIONS, Combination

PAGE = Path(__file__).resolve().parents[4] / "docs" / "supported.md"

_COLUMNS = ("Algorithm", "Observations", "Actions", "Model", "Connectors")

_TITLE = """# What can be served

Each row is a combination that a test trains with RLlib, exports, and steps side by side with RLlib's own inference path
through the same episodes: equal integers, 1e-5 on everything else (actions, the parameters of their distributions,
log-probabilities, value estimates), with recurrent state, stacked frames and previous actions where there are any.
Rows can be mixed; what cannot be exported exactly is refused by name.

This page is written by `make docs` from those tests.

"""


def describe(combination: Combination) -> tuple[str, ...]:
    """Writes the cells of one row."""
    pieces = [*combination.env_to_module(), *combination.module_to_env()]
    connectors = [type(piece).__name__ for piece in pieces]
    if not combination.environment.get("normalize_actions", True):
        connectors.append("clip actions" if combination.environment.get("clip_actions") else "actions as they are")
    return (
        combination.algorithm,
        _space(combination.observations),
        _space(combination.actions),
        _model(combination),
        " → ".join(connectors) or "default",
    )


def page() -> str:
    """Writes the page."""
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *map(describe, COMBINATIONS)]
    return _TITLE + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _space(space: gymnasium.Space[Any]) -> str:
    match space:
        case gymnasium.spaces.Dict():
            return f"Dict({', '.join(f'{key}: {_space(part)}' for key, part in space.spaces.items())})"
        case gymnasium.spaces.Tuple():
            return f"Tuple({', '.join(map(_space, space.spaces))})"
        case gymnasium.spaces.Box():
            return f"Box {space.dtype}{list(space.shape)}"
        case gymnasium.spaces.Discrete() if space.start:
            return f"Discrete({space.n}, start={space.start})"
        case _:
            return str(space)


def _model(combination: Combination) -> str:
    if combination.module_class is not None:
        return f"custom: {combination.module_class.__name__}"
    settings = combination.model
    kind = "LSTM" if settings.get("use_lstm") else "CNN" if len(combination.observations.shape or ()) == 3 else "MLP"
    details = [name for name in ("vf_share_layers", "free_log_std") if settings.get(name)]
    details += [f"{name}={value}" for name, value in combination.training.items() if isinstance(value, int)]
    return f"{kind} ({', '.join(details)})" if details else kind


if __name__ == "__main__":
    PAGE.write_text(page())
