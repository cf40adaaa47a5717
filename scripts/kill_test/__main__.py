"""`python -m scripts.kill_test`; see `report.py`."""

from __future__ import annotations

import sys

from scripts.kill_test.report import main

if __name__ == "__main__":
    sys.exit(main())
