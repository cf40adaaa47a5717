"""TLS below an asyncio protocol, in little memory.

asyncio's own TLS keeps a buffer of 256 KiB for each connection: 3 GB for ten thousand agents. Here records pass through
OpenSSL in pieces and what is read lands in one buffer that all connections share.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, Final

__all__ = ["Tls"]

_PIECE: Final = 16 * 1024
"""Bytes given to OpenSSL at a time: one record. Its buffers never shrink below what they once held."""
_SCRATCH: Final = memoryview(bytearray(320 * 1024))
"""Where plain text is put together: more than asyncio reads at once (256 KiB)."""


class Tls(asyncio.Protocol, asyncio.Transport):
    """The protocol of a TCP transport, and the transport of `upper`, which learns of the connection once TLS stands.

    `established` is done then, or has the ssl.SSLError or OSError that prevented it. `upper.data_received` gets a view
    that is valid during the call only.
    """

    def __init__(
        self, upper: asyncio.Protocol, context: ssl.SSLContext, *, server_side: bool = False, host: str | None = None
    ) -> None:
        super().__init__()
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._upper = upper
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=host)
        self._transport: asyncio.Transport | None = None
        self._stands = False
        self._aborted = False

    # --- below: a protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._aborted:
            transport.abort()
        else:
            self._shake_hands()

    def data_received(self, data: bytes) -> None:
        view = memoryview(data)
        filled = 0
        for start in range(0, len(view), _PIECE):
            self._incoming.write(view[start : start + _PIECE])
            if not self._stands:
                self._shake_hands()
                if not self._stands:
                    continue
            filled = self._read(filled)
            if filled < 0:
                return
        self._flush()  # an alert, or new keys
        if filled:
            self._upper.data_received(_SCRATCH[:filled])  # type: ignore[arg-type]

    def eof_received(self) -> None:
        if self._stands:
            self._upper.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(error or ConnectionResetError("the connection ended during the TLS handshake"))
        if self._stands:
            self._stands = False
            self._upper.connection_lost(error)

    def pause_writing(self) -> None:
        if self._stands:
            self._upper.pause_writing()

    def resume_writing(self) -> None:
        if self._stands:
            self._upper.resume_writing()

    # --- above: a transport ------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or not self._stands:
            return
        view = memoryview(data)
        sealed = []
        try:
            for start in range(0, len(view), _PIECE):
                self._object.write(view[start : start + _PIECE])
                sealed.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._break(error)
            return
        transport.write(sealed[0] if len(sealed) == 1 else b"".join(sealed))

    def close(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._stands:
            with suppress(ssl.SSLError):  # it wants the other side's goodbye, too: nobody waits for it
                self._object.unwrap()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    # --- TLS ---------------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._break(error)
            return
        self._flush()
        self._stands = True
        if not self.established.done():
            self.established.set_result(None)
        self._upper.connection_made(self)

    def _read(self, filled: int) -> int:
        """Everything that is there, behind `filled` bytes of the shared buffer; where it ends now. -1: it broke."""
        try:
            while True:
                size = self._object.read(_PIECE, _SCRATCH[filled:])
                if not size:
                    break
                filled += int(size)
        except ssl.SSLWantReadError:
            return filled
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            self._break(error)
            return -1
        if filled:
            self._upper.data_received(_SCRATCH[:filled])  # type: ignore[arg-type]
        self._upper.eof_received()
        self.close()
        return -1

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._outgoing.read())

    def _break(self, error: Exception) -> None:
        self._flush()  # the alert that says why
        self._fail(error)
        if self._transport is not None:
            self._transport.close() if not self._stands else self._transport.abort()

    def _fail(self, error: Exception) -> None:
        if not self.established.done():
            self.established.set_exception(error)
            self.established.exception()  # whoever does not ask does not care
