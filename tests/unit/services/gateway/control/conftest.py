from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.databases import drop_database


@pytest.fixture(autouse=True)
def _own_database(tmp_path: Path) -> Iterator[None]:
    yield
    drop_database(tmp_path)
