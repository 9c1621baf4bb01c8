"""Brings bundles to this machine."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from pathlib import Path

from services.common.bundle import Bundle, read_bundle
from services.common.local_path import local_path
from steersman.errors import UnavailableError

_log = logging.getLogger(__name__)


def fetch_bundle(uri: str, cache: Path, mlflow_url: str) -> Bundle:
    """Reads a bundle, after a download where that is needed.

    Versions are immutable, so what was fetched once is served from the cache, also while MLflow is down.

    Args:
        uri: A folder, its `file:` URI, or any artifact URI that MLflow reads (`mlflow-artifacts:`, `s3://`, ...).
        cache: Folder for downloads.
        mlflow_url: The tracking server, which `mlflow-artifacts:` URIs are relative to.

    Raises:
        InvalidArgumentError: If it is no sound bundle.
        UnavailableError: If it cannot be downloaded.
    """
    path = local_path(uri)
    if path is not None and path.is_absolute():
        return read_bundle(path)
    folder = cache / hashlib.sha256(uri.encode()).hexdigest()
    if not folder.exists():
        _download(uri, folder, mlflow_url)
    return read_bundle(folder)


def _download(uri: str, folder: Path, mlflow_url: str) -> None:
    """Downloads a bundle into a folder that appears only when it is complete."""
    # Heavy, and not needed for a bundle that is here already.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow.artifacts

    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        downloaded = mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=str(partial), tracking_uri=mlflow_url
        )
        Path(downloaded).rename(folder)
    except FileExistsError:
        pass  # another replica of this node was quicker
    except OSError as error:
        if not folder.exists():
            raise UnavailableError(f"cannot store the bundle {uri} in {folder}: {error}") from error
    except Exception as error:
        raise UnavailableError(f"cannot download the bundle {uri} through {mlflow_url}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _log.info("downloaded %s", uri)
