"""The demo (`__main__.py`) and its stage: processes that leave nothing behind, the local API, and what is printed."""
