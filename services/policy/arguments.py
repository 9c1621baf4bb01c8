"""Which bundles a replica process is to serve, as its command line says; also that of `steersman serve`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from services.common.bundle import read_bundle
from services.common.local_path import local_path
from steersman.policy_names import parse_version, policy_name

Folders = dict[str, dict[int, Path]]
"""Bundles by policy and version."""


def read_arguments(arguments: list[str]) -> Folders:
    """Reads which bundles are to be served.

    Args:
        arguments: Each a folder, or NAME=FOLDER, or NAME:VERSION=FOLDER, with the folder's path or its `file:` URI.
            Without a name, the bundle's environment gives it; without a version, it is the next one of that name.

    Raises:
        InvalidArgumentError: If an argument makes no sense, or a bundle is needed for its name and cannot be read.
    """
    folders: Folders = defaultdict(dict)
    for argument in arguments:
        # A folder's own path may have "=" in it, as in "lr=0.1/bundle".
        is_named = "=" in argument and not Path(argument).is_dir()
        address, _, given = argument.partition("=") if is_named else ("", "", argument)
        folder = (local_path(given) or Path(given)).absolute()
        if not is_named:
            address = policy_name(read_bundle(folder).spec.environment_id)
        name, version = parse_version(address)
        folders[name][version or max(folders[name], default=0) + 1] = folder
    return dict(folders)
