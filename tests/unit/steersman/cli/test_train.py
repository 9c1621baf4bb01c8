from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import json_format

from steersman.arguments import kwargs_of
from steersman.cli.train import here_or_uri, parse_wrapper
from steersman.errors import InvalidArgumentError


def test_a_wrapper_is_a_path() -> None:
    wrapper = parse_wrapper("gymnasium.wrappers:TimeAwareObservation")
    assert wrapper.path == "gymnasium.wrappers:TimeAwareObservation"
    assert not wrapper.kwargs


def test_arguments_of_a_wrapper_are_json_behind_it() -> None:
    wrapper = parse_wrapper('gymnasium.wrappers:RescaleAction{"min_action": -1, "names": {"a": [1, 2]}}')
    assert wrapper.path == "gymnasium.wrappers:RescaleAction"
    assert json_format.MessageToDict(wrapper.kwargs) == {"min_action": -1, "names": {"a": [1, 2]}}


@pytest.mark.parametrize("text", ["module:Name{", 'module:Name{"a"}', "module:Name{1}"])
def test_what_is_no_json_is_shown(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a wrapper like"):
        parse_wrapper(text)


def test_paths_become_absolute_and_uris_stay() -> None:
    assert here_or_uri("folder") == str(Path.cwd() / "folder")
    assert here_or_uri("s3://bucket/set") == "s3://bucket/set"
    assert here_or_uri("file:/a%20b") == "file:/a%20b"
    assert here_or_uri("") == ""


def test_arguments_of_wrappers_keep_the_types_of_numbers() -> None:
    wrapper = parse_wrapper('module:Name{"min_action": -1.0, "names": [1, 2.0, 9007199254740993]}')
    assert repr(kwargs_of(wrapper)) == "{'min_action': -1.0, 'names': [1, 2.0, 9007199254740993]}"
