"""Every error that Covey raises, with its stable code.

The tree::

    CoveyError
    ├── ParseError            (also ValueError)   bytes that are not what they claim to be
    ├── VerifyError           (also ValueError)   a signature, certificate or order that does not hold
    │   └── CryptoError                           a ciphertext that does not open, a key that is refused
    ├── UsageError            (also ValueError)   what the caller asked cannot be done as asked
    ├── NotFoundError         (also LookupError)  no such peer, name, message
    ├── StateError                                right request, wrong moment
    ├── RefusedError          (also PermissionError)  the other side, or policy, said no
    ├── UnreachableError      (also ConnectionError)  the peer or the network does not answer
    ├── TimeoutError          (also TimeoutError) the time given is over
    ├── LimitError                                a documented limit was hit
    └── StorageError          (also OSError)      a file or database cannot be used

An error has a ``code`` (stable, lower-case words with hyphens: programs may branch on it), a message (for people, it
may change) and, where one exists, the ``next_step``: what to run or do now.
"""

from __future__ import annotations

import builtins

__all__ = [
    "CoveyError",
    "CryptoError",
    "LimitError",
    "NotFoundError",
    "ParseError",
    "RefusedError",
    "StateError",
    "StorageError",
    "TimeoutError",
    "UnreachableError",
    "UsageError",
    "VerifyError",
]


class CoveyError(Exception):
    """Base of everything Covey raises on purpose.

    ``code`` is the class' default unless given; ``next_step`` is a sentence or a command line, or "".
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message


class ParseError(CoveyError, ValueError):
    """Bytes or text that do not parse. The only error a parser of foreign bytes may raise."""

    default_code = "malformed"


class VerifyError(CoveyError, ValueError):
    """Well-formed, but not true: a signature, a certificate's life, a hash link, an order."""

    default_code = "not-verified"


class CryptoError(VerifyError):
    """A ciphertext that does not open or a public key that the algorithm refuses."""

    default_code = "crypto"


class UsageError(CoveyError, ValueError):
    """The caller's own input is wrong."""

    default_code = "usage"


class NotFoundError(CoveyError, LookupError):
    """What was named does not exist, or not for the asker."""

    default_code = "not-found"


class StateError(CoveyError):
    """The request is fine, but not now (not started, already closed, another one is running)."""

    default_code = "wrong-state"


class RefusedError(CoveyError, PermissionError):
    """The peer or a policy refused."""

    default_code = "refused"


class UnreachableError(CoveyError, ConnectionError):
    """The peer, its path or the network does not answer."""

    default_code = "unreachable"


class TimeoutError(CoveyError, builtins.TimeoutError):  # noqa: A001 - the word a caller would look for
    """The time the caller allowed is over; what was begun may still complete."""

    default_code = "timeout"


class LimitError(CoveyError):
    """A documented limit (size, count, rate) was hit."""

    default_code = "limit"


class StorageError(CoveyError, OSError):
    """A file or database cannot be read or written, or holds something it should not."""

    default_code = "storage"
