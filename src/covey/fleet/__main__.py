"""`python -m covey.fleet`; see `commands/program.py`."""

from __future__ import annotations

import sys

from covey.fleet.commands.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
