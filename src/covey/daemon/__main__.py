"""`python -m covey.daemon [OPTIONS-JSON]`; see `options.Options`."""

from __future__ import annotations

import sys

from covey.daemon.program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
