"""Who a report comes from: each workload has a token of its own in each pool.

A token is `POOL.WORKLOAD.MAC`; the last part is made of the first two and the fleet's secret, which never leaves its
home. So a workload that was taken over, or a whole cluster, can lie about its own agents there and about no others.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import NamedTuple

__all__ = ["Speaker", "Tokens", "write_private"]


class Speaker(NamedTuple):
    """For whose agents a report may speak."""

    pool: str
    workload: str


class Tokens:
    """The tokens of one fleet, made from the secret in `path`, which is made once: agents outlive controllers."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._secret = _secret(path)
        self._folder = folder

    def of(self, speaker: Speaker) -> str:
        about = f"{speaker.pool}.{speaker.workload}"
        digest = hmac.digest(self._secret, about.encode(errors="surrogatepass"), hashlib.sha256)
        return f"{about}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"

    def file(self, pool: str, workload: str) -> str:
        """A file of ours with the token of these agents."""
        speaker = Speaker(pool, workload)
        path = self._folder / f"{pool}.{workload}"
        content = self.of(speaker).encode()
        with contextlib.suppress(OSError):
            if path.read_bytes() == content:
                return str(path)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_private(path, content)
        return str(path)

    def speaker(self, token: str) -> Speaker | None:
        """Whose it is; None: it is none of ours."""
        pool, _, rest = token.partition(".")
        workload = rest.partition(".")[0]
        given = Speaker(pool, workload)
        ours = self.of(given).encode(errors="surrogatepass")
        return given if hmac.compare_digest(token.encode(errors="surrogatepass"), ours) else None


def _secret(path: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError):
        if secret := path.read_bytes().strip():
            return secret
    secret = secrets.token_urlsafe(32).encode()
    write_private(path, secret)
    return secret


def write_private(path: Path, content: bytes) -> None:
    """All of it or nothing, 0600."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)
