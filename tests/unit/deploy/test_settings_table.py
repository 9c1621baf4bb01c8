from __future__ import annotations

from deploy import settings_table
from steersman.settings import Settings


def test_the_committed_page_is_up_to_date() -> None:
    assert settings_table.PAGE.read_text() == settings_table.page(), "run: make docs"


def test_every_setting_has_a_row() -> None:
    page = settings_table.page()

    for name in Settings.model_fields:
        assert page.count(f"| `STEERSMAN_{name.upper()}` |") == 1
