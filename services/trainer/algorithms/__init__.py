"""RLlib's algorithms: which there are, Steersman's defaults, what may be set, and the config of a run.

Importing this package imports RLlib, which takes seconds.
"""

from services.trainer.algorithms.catalogue import ALGORITHMS, Algorithm, find_algorithm
from services.trainer.algorithms.config import CPUS_PER_PROCESS, build_config, bundles, check_model
from services.trainer.algorithms.settings import (
    MODEL,
    check_setting,
    complete_settings,
    rllib_names,
    settings_of,
    typed_settings,
)

__all__ = [
    "ALGORITHMS",
    "CPUS_PER_PROCESS",
    "MODEL",
    "Algorithm",
    "build_config",
    "bundles",
    "check_model",
    "check_setting",
    "complete_settings",
    "find_algorithm",
    "rllib_names",
    "settings_of",
    "typed_settings",
]
