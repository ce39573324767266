"""From words to runs: recipe or matrix file -> plan -> SkyPilot jobs, or processes on this machine.

`recipe` and `matrix` say what to run, `plan` what is left to do and what it costs, `sky_task` and `submit` send it to
the cloud, `local` runs it here, `status` tells how it goes. Imports neither torch nor numba; sky only where called.
"""


class LaunchError(Exception):
    """What was asked for is right but cannot be done here and now: one clear line (exit code 1)."""
