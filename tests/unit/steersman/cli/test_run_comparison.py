from __future__ import annotations

from pathlib import Path

from steersman.cli.run_comparison import differences, draw
from steersman.v1 import trainer_pb2


def test_only_what_differs_is_listed() -> None:
    first = {"seed": 1, "settings": {"lr": 0.1, "gamma": 0.99, "old": True}, "algorithm": "PPO"}
    second = {"seed": 2, "settings": {"lr": 0.2, "gamma": 0.99}, "algorithm": "PPO"}
    assert differences(first, second) == {"seed": (1, 2), "settings.lr": (0.1, 0.2), "settings.old": (True, None)}
    assert differences(first, first) == {}


def test_both_curves_are_drawn(tmp_path: Path) -> None:
    runs = [trainer_pb2.Run(id=name * 32) for name in "ab"]
    curve = [trainer_pb2.Iteration(iteration=i, steps=100 * i, training_return=float(i)) for i in (1, 2)]
    draw(tmp_path / "curves.png", runs, [curve, []])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
