"""Plugin of SkyPilot's API server for a machine without the internet (0.14.1).

The controller of managed jobs asks https://8.8.8.8 and https://1.1.1.1 before it looks at a job, and waits where
neither answers; there is no setting. Here it asks the API server itself, and looks every three seconds, not fifteen.
"""

import os
from typing import Any

from sky.server import plugins  # pyright: ignore[reportMissingImports]


class Loopback(plugins.BasePlugin):
    """Sets two private names of SkyPilot: a version that renames them ends this test, not a launch."""

    def install(self, extension_context: Any) -> None:
        from sky.backends import backend_utils
        from sky.jobs import utils

        backend_utils._TEST_IP_LIST = ["http://127.0.0.1:46580/api/health"]
        utils.JOB_STATUS_CHECK_GAP_SECONDS = float(os.environ.get("LOOPBACK_POLL_S", "3"))
