"""`python -m covey.rendezvous`; see `program.py`."""

from __future__ import annotations

import sys

from covey.rendezvous.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
