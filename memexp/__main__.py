"""`python -m memexp` is `memexp`."""

import sys
from pathlib import Path

if not sys.flags.safe_path:
    # `python -m` puts the current folder first: a file there would take the place of a package.
    folder = sys.path.pop(0)
    if Path(__file__).resolve().parents[1] == Path(folder).resolve():  # it holds memexp itself, as on a node
        sys.path.append(folder)

from memexp.cli import main

if __name__ == "__main__":
    sys.exit(main())
