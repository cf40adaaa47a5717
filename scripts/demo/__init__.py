"""The stage of `scripts/demo.py`: processes that leave nothing behind, the local API, and what is printed."""
