"""Local ports that were opened for one connection alone: who has them, and which nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covey.core.connection import Connection

__all__ = ["LentPorts"]


class LentPorts:
    """A birthday run (`birthday.py`) borrows 256 ports; the one that a path was found on stays as long as the path.

    What `give_back`, `closed` and `sweep` return is to be closed.
    """

    __slots__ = ("_holders", "_idle")

    def __init__(self) -> None:
        self._holders: dict[int, Connection] = {}
        self._idle: set[int] = set()
        """Ports that nobody used at the last sweep."""

    def __len__(self) -> int:
        return len(self._holders)

    def lend(self, connection: Connection, ports: Iterable[int]) -> None:
        for port in ports:
            self._holders[port] = connection

    def give_back(self, ports: Iterable[int]) -> list[int]:
        return [port for port in ports if self._holders.pop(port, None) is not None]

    def closed(self, connection: Connection) -> list[int]:
        """This connection is over."""
        return self.give_back([port for port, holder in self._holders.items() if holder is connection])

    def sweep(self, used: Callable[[Connection], Collection[int]]) -> list[int]:
        """`used` gives the ports that a connection uses. A path that died has until the next sweep to come back."""
        in_use = {port for connection in set(self._holders.values()) for port in used(connection)}
        idle = set(self._holders) - in_use
        unused = self.give_back(sorted(idle & self._idle))
        self._idle = idle.difference(unused)
        return unused
