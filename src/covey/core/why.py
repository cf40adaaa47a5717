"""Why the paths of a session are what they are, as a code of `base.reasons`. Decides nothing; it only looks."""

from __future__ import annotations

from covey.core import limits
from covey.core.connection import Connection
from covey.core.path import Path
from covey.core.paths import Paths

__all__ = ["path_reason", "relay_reason"]


def path_reason(now: float, connection: Connection, path: Path) -> str:
    """Why `path`, one of those of the session that carries `connection`, is used as it is."""
    session = connection.session
    if path.suspect:
        return "suspect"
    if session is None or path is not session.active:
        return "standby"
    if not path.route.relayed:
        return "direct"
    return relay_reason(now, connection, session.paths)


def relay_reason(now: float, connection: Connection, paths: Paths) -> str:
    """Why the data is relayed: why there is no direct path."""
    if not connection.direct:
        return "not-trusted"
    if not paths.remote_candidates:
        return "no-candidate"
    if paths.proving.probing:
        return "probing"
    if now > connection.last_used + limits.ACTIVE_SECONDS:
        return "idle"
    return "peer-silent"
