import asyncio
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from deploy.free_ports import free_address
from services.evaluator.judge.archive import Archive
from steersman.v1 import evaluator_pb2


def rows(*returns: float) -> list[evaluator_pb2.EpisodeResult]:
    return [
        evaluator_pb2.EpisodeResult(
            episode=number, seed=2**63 + number, episode_return=value, length=3, terminated=True
        )
        for number, value in enumerate(returns)
    ]


def test_without_mlflow_a_report_is_kept_on_this_machine(tmp_path: Path) -> None:
    report = evaluator_pb2.EvaluationReport(
        policy="cartpole",
        version=3,
        environment_id="CartPole-v1",
        model_sha256="abc",
        mean=2.0,
        episodes=rows(1.0, 3.0),
        references=[evaluator_pb2.Reference(name="random", episodes=rows(0.5, float("inf")))],
        partial=True,
        problem="the environment raised",
    )
    report.episodes[0].success = True
    folder = Path(asyncio.run(Archive(tmp_path, f"http://{free_address()}").keep(report)))
    assert folder.parent == tmp_path
    table = parquet.read_table(folder / "episodes.parquet")
    assert table.column("player").to_pylist() == ["cartpole:3"] * 2 + ["random"] * 2
    assert table.column("episode_return").to_pylist() == [1.0, 3.0, 0.5, float("inf")]
    assert table.column("seed").to_pylist()[:2] == [2**63, 2**63 + 1]
    assert table.column("success").to_pylist() == [True, None, None, None]
    assert table.schema.metadata[b"model_sha256"] == b"abc"
    written = json.loads((folder / "report.json").read_text())
    assert (written["partial"], written["problem"]) == (True, "the environment raised")
    for name in ("returns.png", "profile.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


async def test_what_cannot_be_kept_is_in_the_log_and_keeps_nothing_else_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> evaluator_pb2.EvaluationReport:
        raise ValueError("there is no report")

    archive = Archive(tmp_path, f"http://{free_address()}")
    archive.keep_later(fail)
    archive.keep_later(
        lambda: evaluator_pb2.EvaluationReport(policy="cartpole", version=3, environment_id="X-v0", episodes=rows(1.0))
    )
    await archive.until_kept()
    (kept,) = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    assert kept.name.startswith("cartpole-3-x-v0")
    (failed,) = [record for record in caplog.records if record.getMessage() == "a report could not be kept"]
    assert failed.exc_info


async def test_a_comparison_is_kept_with_the_episodes_of_both(tmp_path: Path) -> None:
    comparison = evaluator_pb2.Comparison(
        policy=evaluator_pb2.EvaluationReport(
            policy="cartpole", version=3, environment_id="CartPole-v1", episodes=rows(1.0, 3.0)
        ),
        baseline=evaluator_pb2.EvaluationReport(policy="cartpole", version=2, episodes=rows(0.5, 2.0)),
        seed=2**30,
        pairs=2,
    )
    folder = Path(await Archive(tmp_path, f"http://{free_address()}").keep_comparison(comparison))
    assert folder.name.startswith("cartpole-3-against-cartpole-2-cartpole-v1-")
    table = await asyncio.to_thread(parquet.read_table, folder / "episodes.parquet")
    assert table.column("player").to_pylist() == ["cartpole:3"] * 2 + ["cartpole:2"] * 2
    assert table.column("episode_return").to_pylist() == [1.0, 3.0, 0.5, 2.0]
    written = json.loads(await asyncio.to_thread((folder / "comparison.json").read_text))
    assert (written["seed"], written["pairs"]) == (str(2**30), 2)


async def test_a_comparison_that_cannot_be_kept_is_given_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    comparison = evaluator_pb2.Comparison(policy=evaluator_pb2.EvaluationReport(policy="cartpole", version=3))
    assert await Archive(tmp_path / "file", f"http://{free_address()}").keep_comparison(comparison) == ""
    assert "a comparison could not be kept" in caplog.text
