"""Load tests with Locust: throughput under autoscaling, shown and judged; see docs/load-testing.md.

Locust's users are greenlets. The SDK's clients run beside them, on asyncio in a thread of its own (`bridge`), just as
they run at users'. So Locust must not replace Python's threads by gevent's, which it does unless it is told not to
before it is first imported.
"""

import os
import sys

if "locust" in sys.modules and "LOCUST_SKIP_MONKEY_PATCH" not in os.environ:
    raise RuntimeError("expected LOCUST_SKIP_MONKEY_PATCH=1 in Locust's environment; `python -m loadtest web` sets it")
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
