"""Keeps reports: as files on this machine, and with the policy's version in MLflow."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import math
import shutil
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf import json_format

from services.common.files import write_whole
from services.evaluator.play.disturbances import name_of
from steersman.v1 import evaluator_pb2

FOLDER = "evaluations"

_HEALTH_SECONDS = 5.0

_Player = tuple[str, str, float | None, Iterable[evaluator_pb2.EpisodeResult]]

_log = logging.getLogger(__name__)


class Archive:
    """Keeps reports.

    Args:
        folder: Where, on this machine. Each report has a folder of its own there.
        mlflow_url: The tracking server with the policies' versions.
    """

    def __init__(self, folder: Path, mlflow_url: str) -> None:
        self._folder = folder
        self._mlflow_url = mlflow_url
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self, report: evaluator_pb2.EvaluationReport, films: Path | None = None) -> str:
        """Keeps a report: rows as Parquet, the whole as JSON, and pictures.

        Args:
            report: The report.
            films: A folder with files of its videos; they are moved.

        Returns:
            Where: MLflow's URI; a path on this machine where MLflow cannot be reached or has no such version.
        """
        return await asyncio.to_thread(self._keep, report, films)

    async def keep_comparison(self, comparison: evaluator_pb2.Comparison) -> str:
        """Keeps a comparison: the episodes of both as Parquet, the whole as JSON.

        Args:
            comparison: The comparison.

        Returns:
            Where, as for a report; empty if it could not be kept at all, which is in the log.
        """
        try:
            return await asyncio.to_thread(self._keep_comparison, comparison)
        except OSError:
            # Whoever asked gets the comparison all the same.
            _log.exception("a comparison could not be kept")
            return ""

    def keep_later(self, make: Callable[[], evaluator_pb2.EvaluationReport]) -> None:
        """Keeps a report that nobody waits for. What keeps it from that is in the log only."""

        async def keep() -> None:
            try:
                await asyncio.to_thread(lambda: self._keep(make()))
            except Exception:  # noqa: BLE001 - nobody waits for it
                _log.exception("a report could not be kept")

        task = asyncio.create_task(keep())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until_kept(self) -> None:
        """Waits until everything is kept that nobody waits for, as far as it can be."""
        await asyncio.gather(*self._tasks)

    def _keep_comparison(self, comparison: evaluator_pb2.Comparison) -> str:
        report, other = comparison.policy, comparison.baseline
        against = f"{other.policy}-{other.version}" if other.version else other.policy
        folder = self._new_folder(report, f"-against-{against}")
        _write_message(comparison, folder / "comparison.json")
        both = evaluator_pb2.EvaluationReport()
        both.CopyFrom(report)
        both.references.add(
            name=f"{other.policy}:{other.version}" if other.version else other.policy, episodes=other.episodes
        )
        with _kept_without("rows", folder):
            write_rows(both, folder / "episodes.parquet")
        return self._upload(report, folder, {}) or str(folder.absolute())

    def _new_folder(self, report: evaluator_pb2.EvaluationReport, against: str = "") -> Path:
        time = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        environment = report.environment_id.replace("/", "-").lower()
        folder = self._folder / f"{report.policy}-{report.version}{against}-{environment}-{time}"
        folder.mkdir(parents=True)
        return folder

    def _keep(self, report: evaluator_pb2.EvaluationReport, films: Path | None = None) -> str:
        folder = self._new_folder(report)
        _write_message(report, folder / "report.json")
        # The numbers are safe by now, and nothing of what follows is worth losing them for.
        with _kept_without("rows", folder):
            write_rows(report, folder / "episodes.parquet")
        with _kept_without("pictures", folder):
            _write_pictures(report, folder)
        with _kept_without("films", folder):
            _move_films(films, folder)
        return self._upload(report, folder, {} if report.partial else _tags(report)) or str(folder.absolute())

    def _upload(self, report: evaluator_pb2.EvaluationReport, folder: Path, tags: Mapping[str, str]) -> str:
        if not self._reachable():
            _log.warning("MLflow at %s does not answer; the report is kept only in %s", self._mlflow_url, folder)
            return ""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        client = MlflowClient(tracking_uri=self._mlflow_url)
        version = str(report.version)
        try:
            run_id = client.get_model_version(report.policy, version).run_id
            client.log_artifacts(run_id, str(folder), f"{FOLDER}/{folder.name}")
            for name, value in tags.items():
                client.set_model_version_tag(report.policy, version, name, value)
            uri: str = f"{client.get_run(run_id).info.artifact_uri}/{FOLDER}/{folder.name}"
        except (MlflowException, OSError, ValueError) as error:
            # Not all of what MLflow raises is its own: connections break, and answers are not what they should be.
            _log.warning("the report is kept only in %s: %s", folder, error)
            return ""
        return uri

    def _reachable(self) -> bool:
        """Asks once: MLflow's client itself would try for minutes."""
        try:
            with urllib.request.urlopen(f"{self._mlflow_url}/health", timeout=_HEALTH_SECONDS):  # noqa: S310 - a setting
                return True
        except (OSError, ValueError):
            return False


def _write_message(message: evaluator_pb2.EvaluationReport | evaluator_pb2.Comparison, path: Path) -> None:
    text = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    write_whole(path, text.encode())


@contextlib.contextmanager
def _kept_without(what: str, folder: Path) -> Iterator[None]:
    """Leaves a part out that cannot be written: whatever it was, the report is there."""
    try:
        yield
    except Exception:  # noqa: BLE001 - see above
        _log.exception("the report in %s is kept without its %s", folder, what)


def _write_pictures(report: evaluator_pb2.EvaluationReport, folder: Path) -> None:
    # Slow to import, and needed only here.
    from services.evaluator.judge.pictures import write_pictures

    write_pictures(report, folder)


def _move_films(films: Path | None, folder: Path) -> None:
    for film in films.iterdir() if films else ():
        shutil.move(film, folder / film.name)


def write_rows(report: evaluator_pb2.EvaluationReport, path: Path) -> None:
    """Writes one row for each episode, the references' included, as Parquet.

    Raises:
        OSError: If it cannot be written; then there is no such file.
    """
    import pyarrow as pa
    from pyarrow import parquet

    policy = f"{report.policy}:{report.version}"
    players: list[_Player] = [(policy, "", None, report.episodes)]
    players += [(other.name, "", None, other.episodes) for other in report.references]
    players += [
        (policy, name_of(curve.disturbance), point.strength, point.episodes)
        for curve in report.robustness
        for point in curve.points
    ]
    rows = [
        {
            "player": name,
            "episode": row.episode,
            "seed": row.seed,
            "episode_return": row.episode_return,
            "length": row.length,
            "terminated": row.terminated,
            "truncated": row.truncated,
            "cut": row.cut,
            "success": row.success if row.HasField("success") else None,
            "disturbance": disturbance,
            "strength": strength,
        }
        for name, disturbance, strength, episodes in players
        for row in episodes
    ]
    schema = pa.schema(
        [
            ("player", pa.string()),
            ("episode", pa.uint32()),
            ("seed", pa.uint64()),
            ("episode_return", pa.float64()),
            ("length", pa.uint32()),
            ("terminated", pa.bool_()),
            ("truncated", pa.bool_()),
            # By the evaluator, since it had not ended.
            ("cut", pa.bool_()),
            ("success", pa.bool_()),
            # What made the environment harder; empty for nothing.
            ("disturbance", pa.string()),
            ("strength", pa.float64()),
        ],
        metadata={"policy": policy, "environment": report.environment_id, "model_sha256": report.model_sha256},
    )
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
    write_whole(path, buffer.getvalue())


def _tags(report: evaluator_pb2.EvaluationReport) -> dict[str, str]:
    """Gives what a version in the registry says of its last evaluation."""
    low, high = report.mean_interval.low, report.mean_interval.high
    interval = f"{low:.6g} to {high:.6g}" if math.isfinite(low) and math.isfinite(high) else ""
    return {
        "evaluation.environment": report.environment_id,
        "evaluation.episodes": str(len(report.episodes)),
        "evaluation.mean": f"{report.mean:.6g}",
        "evaluation.mean_interval": interval,
        "evaluation.interquartile_mean": f"{report.interquartile_mean:.6g}",
    }
