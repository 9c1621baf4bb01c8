"""Rliable, as far as statistics are compared with it.

It needs arch's bootstraps alone; but importing arch imports its models of time series, too, which do not get along with
pandas 3 (arch 7.2 decorates with `deprecate_kwarg`, whose arguments have changed; rliable allows no later arch). So
arch is entered here as a package whose own module is empty.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

if "arch" not in sys.modules:
    _found = importlib.util.find_spec("arch")
    if _found is None or _found.submodule_search_locations is None:
        raise ImportError("expected the package arch, which rliable needs")
    _package = ModuleType("arch")
    _package.__path__ = list(_found.submodule_search_locations)
    sys.modules["arch"] = _package

from rliable import library, metrics

__all__ = ["library", "metrics"]
