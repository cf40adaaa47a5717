"""The command line: a client of the daemon's local API, and nothing more.

One file per noun holds its commands; a command gets a `Call`, returns an `Outcome`, and `command.py` renders
it once, for people or as JSON. Only Typer, msgspec, `covey.base` and the standard library are imported, Rich
when a table is drawn, so that an answer comes within 250 ms. No asyncio, no cryptography: what needs them
belongs in the daemon.
"""
