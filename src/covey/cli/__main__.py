"""`python -m covey.cli`."""

from __future__ import annotations

from covey.cli.main import main

if __name__ == "__main__":
    main()
