"""A channel over something that passes messages: what a message does not need of `read_exactly` waits for the next."""

from __future__ import annotations

__all__ = ["MessageChannel"]


class MessageChannel:
    """Reads of a channel; who inherits gives `receive`."""

    def __init__(self) -> None:
        self._rest = b""

    async def receive(self) -> bytes:
        """The next message; b"" at the end."""
        raise NotImplementedError

    async def read(self) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        return await self.receive()

    async def read_exactly(self, size: int) -> bytes:
        data = await self.read()
        while len(data) < size:
            more = await self.receive()
            if not more:
                raise ConnectionError("the channel ended early")
            data += more
        self._rest = data[size:]
        return data[:size]
