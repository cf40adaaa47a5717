"""TLS of asyncio's streams once more, for a worker that runs on uvloop."""

from covey.bench.speakers import tls

__all__ = ["tls"]
