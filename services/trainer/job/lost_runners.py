"""Environment runners whose processes are lost: RLlib starts each again, a few times, while the others go on.

RLlib itself would go on for ever without any, and treats an environment that raises like a process that was lost.
"""

from __future__ import annotations

import time
from typing import Any

from services.trainer.environments.watched_environment import what_went_wrong
from steersman.errors import FailedPreconditionError

_WITHOUT_ANY_SECONDS = 120.0
"""How long starting one may take."""


class LostRunners:
    """Ends a trial whose runners cannot be brought back.

    Args:
        trial: The trial's number; 0 for a run's only one.
    """

    def __init__(self, trial: int) -> None:
        self._trial = trial
        self._none_since: float | None = None

    def check(self, runners: Any) -> None:  # noqa: ANN401 - RLlib has no types
        """Looks at the runners before each step of training.

        Args:
            runners: RLlib's `EnvRunnerGroup`; None for what learns from recordings.

        Raises:
            FailedPreconditionError: If an environment has said what is wrong with it, which would come again, or none
                of the runners comes back.
        """
        if runners is None:
            return
        expected, healthy = runners.num_remote_env_runners(), runners.num_healthy_remote_env_runners()
        if healthy == expected:
            self._none_since = None
            return
        said = what_went_wrong(self._trial)
        if said:
            raise FailedPreconditionError(said)
        if healthy:
            self._none_since = None
            return
        now = time.monotonic()
        self._none_since = self._none_since or now
        if now - self._none_since > _WITHOUT_ANY_SECONDS:
            raise FailedPreconditionError(
                f"the processes of all {expected} environment runners were lost, and none came back in "
                f"{_WITHOUT_ANY_SECONDS:g} s: the environment takes them down, or the machine has too little memory"
            )
