"""``python -m heavylift_local up|token|adopt``."""

import sys

from heavylift_local.commands import main

if __name__ == "__main__":
    sys.exit(main())
