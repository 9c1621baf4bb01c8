"""What jobs print, from a real Ray."""

from __future__ import annotations

import shlex
import sys
import uuid
from contextlib import aclosing
from pathlib import Path

import pytest

from services.trainer.cluster.ray_jobs import RayJobs
from steersman.errors import UnavailableError
from tests.conftest import Stack

pytestmark = pytest.mark.integration

_IN_TWO_STEPS = """
import pathlib, sys, time
print("first", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
print("sécond")
"""


async def test_what_a_job_prints_comes_while_it_prints(stack: Stack, tmp_path: Path) -> None:
    job, go_on, program = f"prints-{uuid.uuid4().hex}", tmp_path / "go-on", tmp_path / "program.py"
    program.write_text(_IN_TWO_STEPS)
    async with RayJobs(stack.settings.ray_dashboard_url, stack.settings.ray_token_file) as ray_jobs:
        await ray_jobs.submit(job, shlex.join([sys.executable, str(program), str(go_on)]), {})
        text = ""
        async with aclosing(ray_jobs.follow_logs(job)) as texts:
            async for piece in texts:
                text += piece
                if "first" in text:
                    go_on.touch()
        assert text.endswith("first\nsécond\n")
        assert text == await ray_jobs.logs(job)


async def test_a_job_that_ray_does_not_know_prints_nothing(stack: Stack) -> None:
    async with RayJobs(stack.settings.ray_dashboard_url, stack.settings.ray_token_file) as ray_jobs:
        with pytest.raises(UnavailableError, match="job nobody"):
            async for _ in ray_jobs.follow_logs("nobody"):
                pass
