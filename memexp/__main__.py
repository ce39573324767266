"""`python -m memexp` is `memexp`."""

import sys

from memexp.cli import main

if __name__ == "__main__":
    sys.exit(main())
