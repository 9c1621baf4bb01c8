from __future__ import annotations

import pytest
from google.protobuf import json_format

from steersman.cli.connectors import parse_connector
from steersman.errors import InvalidArgumentError


def test_a_connector_is_a_path_with_its_arguments_as_json() -> None:
    connector = parse_connector('own.pieces:Shift{"by": 3}')
    assert connector.path == "own.pieces:Shift"
    assert json_format.MessageToDict(connector.kwargs) == {"by": 3}
    assert not parse_connector("own.pieces:Shift").kwargs


@pytest.mark.parametrize("text", ["module:Name{", 'module:Name{"a"}', "module:Name{1}"])
def test_what_is_no_json_is_shown(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a connector like"):
        parse_connector(text)
