"""`python -m steersman` is the command `steersman`."""

import sys

from steersman.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
