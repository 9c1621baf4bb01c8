import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common import bundle
from services.policy.runtime import PolicyRuntime
from steersman.errors import InvalidArgumentError
from tests.bundles import write_linear_bundle


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = write_linear_bundle(tmp_path)
    assert bundle.read_bundle(tmp_path) == written
    assert len(written.spec.model_sha256) == 64


def _edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / bundle.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_edited_model_is_refused(tmp_path: Path) -> None:
    model = write_linear_bundle(tmp_path).model_path
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(InvalidArgumentError, match="expected SHA-256"):
        bundle.read_bundle(tmp_path)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    _edit_manifest(tmp_path, format=99)
    with pytest.raises(InvalidArgumentError, match=r"expected a bundle of format 2 or 3.*got 99"):
        bundle.read_bundle(tmp_path)


ENVIRONMENT = {
    "id": "CartPole-v1",
    "kwargs_json": '{"max_episode_steps": 9, "gains": [1.0, 9007199254740993]}',
    "wrappers": [{"path": "gymnasium.wrappers:TimeAwareObservation", "kwargs_json": '{"flatten": true}'}],
    "code_sha256": 64 * "a",
    "first_seed": "7",
}


def test_the_environment_is_part_of_the_spec(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    _edit(tmp_path, lambda manifest: manifest["spec"].update(environment=ENVIRONMENT))
    environment = bundle.read_bundle(tmp_path).spec.environment
    assert (environment.id, environment.first_seed, environment.code_sha256) == ("CartPole-v1", 7, 64 * "a")
    assert environment.kwargs_json == ENVIRONMENT["kwargs_json"]
    assert environment.wrappers[0].kwargs_json == '{"flatten": true}'


def test_bundles_of_format_2_load(tmp_path: Path) -> None:
    written = write_linear_bundle(tmp_path)
    _edit_manifest(tmp_path, format=2)
    read = bundle.read_bundle(tmp_path)
    assert read == written
    assert read.spec.environment_id == "CartPole-v1"
    assert not read.spec.HasField("environment")
    _edit(tmp_path, lambda manifest: manifest["spec"].update(environment=ENVIRONMENT))
    with pytest.raises(InvalidArgumentError, match="is not a bundle's manifest"):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize("spec", [None, 3, {"no_such_field": 1}, {"model_sha256": 5}])
def test_a_spec_that_is_none_is_refused(tmp_path: Path, spec: object) -> None:
    write_linear_bundle(tmp_path)
    _edit_manifest(tmp_path, spec=spec)
    with pytest.raises(InvalidArgumentError):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / bundle.MANIFEST).write_text(text)
    with pytest.raises(InvalidArgumentError):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.MODEL])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InvalidArgumentError, match=name):
        bundle.read_bundle(tmp_path)


def test_an_oversized_manifest_is_not_read(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / bundle.MANIFEST).write_bytes(b" " * (bundle.MAX_MANIFEST_BYTES + 1))
    with pytest.raises(InvalidArgumentError, match="expected at most"):
        bundle.read_bundle(tmp_path)


def _edit(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / bundle.MANIFEST
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda manifest: manifest.update(extra=1), r"at \$: Additional properties .*'extra'"),
        (lambda manifest: manifest.pop("provenance"), r"at \$: 'provenance' is a required property"),
        (lambda manifest: manifest["spec"].update(pickle="x"), r"at \$\.spec: .*'pickle'"),
        (lambda manifest: manifest["spec"].update(model_sha256="ABC"), r"at \$\.spec\.model_sha256"),
        (
            lambda manifest: manifest["spec"]["observation_tensors"][0].update(dtype="DATA_TYPE_PICKLE"),
            r"at \$\.spec\.observation_tensors\[0\]\.dtype",
        ),
        (lambda manifest: manifest["spec"].update(action_tensors=[]), r"at \$\.spec\.action_tensors"),
        (
            lambda manifest: manifest["spec"]["observation_tensors"][0].update(shape=["5"]),
            r"expected the observation tensors of its observation space, \[.*\[4\].*\], got \[.*\[5\]",
        ),
        (
            lambda manifest: manifest["spec"].update(
                state_tensors=[{"name": "observation", "dtype": "DATA_TYPE_FLOAT32"}]
            ),
            "a name of its own for each input",
        ),
        (
            lambda manifest: manifest["spec"].update(environment=ENVIRONMENT | {"id": "Acrobot-v1"}),
            "expected the environment 'CartPole-v1' as environment_id says, got 'Acrobot-v1'",
        ),
        (
            lambda manifest: manifest["spec"].update(environment=ENVIRONMENT | {"kwargs_json": "[1]"}),
            "expected arguments as a JSON object",
        ),
        (
            lambda manifest: manifest["spec"].update(environment=ENVIRONMENT | {"wrappers": [{"path": "os:system"}]}),
            "'os:system' of Python's own library",
        ),
        (
            lambda manifest: manifest["spec"].update(action_distributions=2 * manifest["spec"]["action_distributions"]),
            "expected 1 action distributions, got 2",
        ),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    write_linear_bundle(tmp_path)
    _edit(tmp_path, edit)
    with pytest.raises(InvalidArgumentError, match=message):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2, "format": 2}', "the key 'format' comes twice"),
        ('{"format": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "is not JSON"),
        ("\ud800", "is not JSON"),
    ],
)
def test_json_that_readers_would_not_agree_on_is_refused(tmp_path: Path, text: str, message: str) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / bundle.MANIFEST).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InvalidArgumentError, match=message):
        bundle.read_bundle(tmp_path)


@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.MODEL])
def test_links_may_not_leave_the_bundle(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    write_linear_bundle(folder)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(InvalidArgumentError, match=r"inside of .*, got a link to"):
        bundle.read_bundle(folder)
    # As in a mounted configuration, whose files are links to another folder inside.
    inside = folder / "inside"
    inside.mkdir()
    (tmp_path / name).rename(inside / name)
    (folder / name).unlink()
    (folder / name).symlink_to(inside / name)
    assert bundle.read_bundle(folder)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", [bundle.MANIFEST, bundle.MODEL])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with pytest.raises(InvalidArgumentError, match=name):
        bundle.read_bundle(tmp_path)


def test_what_is_loaded_is_what_was_checked(tmp_path: Path) -> None:
    read = write_linear_bundle(tmp_path)
    (tmp_path / bundle.MODEL).write_bytes(write_linear_bundle(tmp_path / "other", seed=5).model_path.read_bytes())
    with pytest.raises(InvalidArgumentError, match="expected SHA-256"):
        PolicyRuntime(read)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([bundle.MANIFEST, bundle.MODEL]), st.randoms(), st.sampled_from(["flip", "cut", "swap"]))
def test_a_damaged_bundle_loads_equal_or_is_refused(
    tmp_path: Path, name: str, chance: random.Random, damage: str
) -> None:
    original = write_linear_bundle(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    if damage == "flip":
        content[place] ^= 1 << chance.randrange(8)
    elif damage == "cut":
        del content[place:]
    else:
        other = chance.randrange(len(content))
        content[place], content[other] = content[other], content[place]
    path.write_bytes(content)
    try:
        read = bundle.read_bundle(tmp_path)
        PolicyRuntime(read)
    except InvalidArgumentError:
        return
    assert read.spec.model_sha256 == original.spec.model_sha256
    assert list(read.spec.observation_tensors) == list(original.spec.observation_tensors)
