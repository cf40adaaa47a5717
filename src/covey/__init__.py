"""Covey: a permanent address and a private, end-to-end encrypted network for every AI agent.

The package is lazy: importing it costs nothing, `covey.Node` loads the node when it is first asked for, so
that the CLI and small programs do not pay for the cryptography they do not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covey.node import Node as Node

    __version__: str

__all__ = ["Node", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Node":
        from covey.node import Node

        value: Any = Node
    elif name == "__version__":
        value = _installed_version()
    else:
        raise AttributeError(f"module 'covey' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("covey")
    except PackageNotFoundError:
        return "0+source"
