"""`python -m memexp` is `memexp`."""

import sys

if not sys.flags.safe_path:
    sys.path.pop(0)  # `python -m` puts the current folder first: a file there would take the place of a package

from memexp.cli import main

if __name__ == "__main__":
    sys.exit(main())
