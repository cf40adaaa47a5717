"""The process that runs one agent's node beside its programs: `python -m covey.daemon`.

It owns the lifetime of a `covey.node.Node` and gives it two faces on Unix sockets: `api.sock`, HTTP and JSON
(`api.py` is the table of routes, `http.py` the mechanics), and `stream.sock`, raw bytes (`streams.py`). What
may live here: the process (options, signals, logs, sockets) and the translation of requests into calls of the
node. What may not: anything that a program embedding the node would miss. Neither Typer nor Rich is imported.
"""
