"""The process: `python -m covey.rendezvous`, or `covey rendezvous`, which becomes it.

    --listen HOST:PORT  --advertise HOST:PORT ...  --join TICKET ...
    --certificate FILE --key FILE  --websocket HOST:PORT  --advertise-websocket HOST:PORT ...
    --home DIR  --json  --log-level LEVEL  --drain-timeout SECONDS
    --relay-rate BYTES  --jurisdiction WORD

What is not said is what the last run of the same home was told: without `--listen` it listens where it did
before (at first 0.0.0.0:4040) and advertises what it did, and port 0 takes the port it had before if that is
free. So a ticket outlives restarts. With a certificate it serves WebSockets too, on TCP port 443 where nothing
else is said. SIGTERM and SIGINT drain and exit with 0; a second one ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from msgspec.structs import replace

from covey.base.config import NUMBERS, check_value
from covey.base.constants import DEFAULT_PORT
from covey.base.errors import CoveyError, ParseError, StateError, StorageError, UsageError
from covey.base.exit_codes import exit_code
from covey.base.types import Endpoint, parse_endpoint
from covey.crypto.credentials import Credentials
from covey.net.real import RealHost
from covey.node.storage.database import Database
from covey.rendezvous import logs, ready
from covey.rendezvous.home import Place, Remembered, WebSocketPlace, place
from covey.rendezvous.server import Rendezvous
from covey.wire.relay import Relaying
from covey.wire.ticket import Ticket

if TYPE_CHECKING:
    from covey.net.websocket_server import Certificate

__all__ = ["Options", "main", "parse_options", "run"]

_log = logging.getLogger(__name__)

DEFAULT_LISTEN: Final = ("0.0.0.0", DEFAULT_PORT)  # noqa: S104 - a server's purpose
ADVERTISE_LIMIT: Final = 4
"""Endpoints of one rendezvous in a ticket (`wire/ticket.py`)."""
DRAIN_SECONDS: Final = 5.0
"""How long clients may take to move what is relayed for them to another rendezvous."""
DRAIN_LIMIT: Final = 3600.0
WEBSOCKET_PORT: Final = 443
"""Of HTTPS: the one that is open where few are."""
CERTIFICATE_SECONDS: Final = 60.0
"""Between looks at the certificate's files."""
WATCH_SECONDS: Final = 5.0
"""Between looks at the databases' files."""
COUNTS_SECONDS: Final = 60.0
"""Between log lines with figures; there is none when nothing changed."""


class Options(NamedTuple):
    """What the process is told."""

    listen: Endpoint | None
    """None: as the last time. The host may be a name."""
    advertise: tuple[str, ...]
    home: str | None
    json: bool
    log_level: str
    drain_timeout: float = DRAIN_SECONDS
    """Seconds."""
    join: tuple[Ticket, ...] = ()
    """Of the other rendezvous of the network; none: as the last time."""
    relaying: Relaying = Relaying(True)
    """What clients are told about relaying for them."""
    certificate: str | None = None
    """A file: serve WebSockets over TLS. None: as the last time."""
    key: str | None = None
    websocket: Endpoint | None = None
    advertise_websocket: tuple[str, ...] = ()


def main(arguments: Sequence[str]) -> int:
    """The process' exit code: 0 after a signal, else the error's, as everywhere in Covey."""
    as_json = "--json" in arguments
    try:
        options = parse_options(arguments, os.environ)
        logs.configure(options.log_level, json=options.json)
        os.umask(0o077)
        return asyncio.run(run(options, place(options.home, os.environ)))
    except KeyboardInterrupt:
        return 0  # before the signals were handled there was nothing to drain
    except CoveyError as error:
        ready.failed(error, json=as_json)
        return exit_code(error)


async def run(options: Options, where: Place) -> int:
    """Serve until a signal. Raises what prevented the start."""
    stopping, now = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        (now if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    with where.held(), contextlib.closing(RealHost()) as host:
        credentials = where.credentials(host.random, host.wall_us())
        serving: Credentials | None = credentials
        announce = ready.serving
        while serving is not None:
            serving = await _serve(options, where, host, serving, announce, stopping, now)
            announce = _say_nothing  # the ticket is the same
    return 0


async def _serve(
    options: Options,
    where: Place,
    host: RealHost,
    credentials: Credentials,
    announce: Callable[..., None],
    stopping: asyncio.Event,
    now: asyncio.Event,
) -> Credentials | None:
    """Until a signal: None. Or until a database is lost; then its credentials, to begin anew with."""
    loop = asyncio.get_running_loop()
    opened_us = host.wall_us()
    with (
        contextlib.closing(where.open_store(opened_us)) as store,
        contextlib.closing(where.open_mailboxes(opened_us)) as mailboxes,
    ):
        before = where.remembered()
        listens, advertise = await _places(options, before, host)
        make = partial(
            Rendezvous,
            host,
            store=store,
            mailboxes=mailboxes,
            advertise=advertise,
            save=where.save,
            relaying=options.relaying,
        )
        websocket = await _websocket(options, before, host, listens[0][0])
        certificate = None
        if websocket is not None:
            # Here, because TLS takes memory that not every rendezvous needs.
            from covey.net.websocket_server import Certificate, WebSocketListener

            certificate = Certificate(websocket.certificate, websocket.key)
            listener = partial(WebSocketListener, (websocket.host, websocket.port), certificate.context)
            make = partial(make, websockets=listener, advertise_websockets=websocket.advertise)
        server, ticket = await _start(make, credentials, listens)
        network = _network(ticket, options.join, before)
        if websocket is not None:
            websocket = replace(websocket, port=server.websocket_port)  # where 0 was asked for: the same the next time
        where.remember(Remembered(server.listening[0], server.listening[1], advertise, str(network), websocket))
        announce(ticket, network, server.listening, json=options.json)
        databases = (store.database, mailboxes.database)
        counting = loop.create_task(_log_counts(server))
        renewing = loop.create_task(_keep_current(certificate))
        watching = loop.create_task(_until_lost(host, databases))
        stopped = loop.create_task(stopping.wait())
        await asyncio.wait((watching, stopped), return_when=asyncio.FIRST_COMPLETED)
        lost = watching.done() and not stopping.is_set()
        _log.info("draining")
        for task in (counting, watching, stopped, renewing):
            task.cancel()
        closing = loop.create_task(server.close(0.0 if lost else options.drain_timeout))
        impatient = loop.create_task(now.wait())
        await asyncio.wait((closing, impatient), return_when=asyncio.FIRST_COMPLETED)
        impatient.cancel()
        if not closing.done():
            closing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closing
        credentials = server.credentials
    if not lost:
        _log.info("stopped")
        return None
    for database in databases:
        if database.trouble is not None and database.trouble.code == "store-corrupt":
            where.put_aside(database.path, host.wall_us())
    return credentials


async def _until_lost(host: RealHost, databases: Sequence[Database]) -> None:
    """Returns when a database is found damaged, or is not where it was: with an empty one all goes on, since agents
    publish again when they come back."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        for database in databases:
            try:
                await host.blocking(database.confirm)
            except StorageError as error:
                _log.error("trouble with a database", extra={"fields": {"code": error.code, "reason": error.message}})
            if database.trouble is not None and database.trouble.code in ("store-corrupt", "store-missing"):
                _log.error("a database is lost: beginning anew", extra={"fields": {"reason": database.trouble.message}})
                return


def _say_nothing(*_: object, **__: object) -> None:
    """In place of the ticket that was said."""


async def _start(
    make: Callable[..., Rendezvous], credentials: Credentials, listens: Sequence[Endpoint]
) -> tuple[Rendezvous, Ticket]:
    """A rendezvous at the first of `listens` that is free."""
    for listen in listens[:-1]:
        server = make(credentials, listen=listen)
        try:
            return server, await server.start()
        except StateError as error:
            await server.close()
            if error.code != "address-in-use":
                raise
            credentials = server.credentials  # a key that was due is renewed and saved by now
    server = make(credentials, listen=listens[-1])
    try:
        return server, await server.start()
    except CoveyError as error:
        await server.close()
        if error.code == "address-in-use":
            raise _busy(error, listens[-1]) from error
        raise


async def _places(
    options: Options, before: Remembered | None, host: RealHost
) -> tuple[list[Endpoint], tuple[str, ...]]:
    """Where to listen, the best place first, and what to advertise (nothing: what follows from that)."""
    if options.listen is None:
        listen = DEFAULT_LISTEN if before is None else (before.host, before.port)
        advertise = options.advertise or (() if before is None else before.advertise)
        return [listen], advertise
    name, port = options.listen
    address = (await host.resolve(name, port))[0][0]
    listens = [(address, port)]
    if port == 0 and before is not None and before.host == address:
        listens.insert(0, (address, before.port))
    return listens, options.advertise


async def _websocket(options: Options, before: Remembered | None, host: RealHost, listen: str) -> WebSocketPlace | None:
    """Where to serve WebSockets, None for not at all."""
    known = before.websocket if before is not None else None
    if options.certificate is None:
        if known is not None and options.websocket is None and not options.advertise_websocket:
            return known
        if options.websocket is not None or options.advertise_websocket:
            raise UsageError(
                "a WebSocket needs a certificate",
                code="bad-certificate",
                next_step="covey rendezvous --certificate fullchain.pem --key privkey.pem",
            )
        return None
    name, port = options.websocket or (listen, WEBSOCKET_PORT)
    address = (await host.resolve(name, port))[0][0]
    return WebSocketPlace(address, port, options.certificate, options.key or "", options.advertise_websocket)


async def _keep_current(certificate: Certificate | None) -> None:
    """A certificate that was renewed is served without a restart."""
    while certificate is not None:
        await asyncio.sleep(CERTIFICATE_SECONDS)
        try:
            if certificate.refresh():
                _log.info("the certificate was renewed")
        except CoveyError as error:
            _log.error("the certificate", extra={"fields": {"code": error.code, "reason": error.message}})


def _network(own: Ticket, joined: Sequence[Ticket], before: Remembered | None) -> Ticket:
    """The ticket of the whole network: of those given, else those of the last time, and of ours as it is now."""
    remembered = Ticket.parse(before.network) if not joined and before is not None and before.network else None
    tickets = [*joined, *([] if remembered is None else [remembered])]
    return reduce(Ticket.joined, [*tickets, own])


async def _log_counts(server: Rendezvous) -> NoReturn:
    last = None
    while True:
        await asyncio.sleep(COUNTS_SECONDS)
        try:
            counts = await server.counts()
        except CoveyError as error:
            _log.error("no figures", extra={"fields": {"code": error.code, "reason": error.message}})
            continue
        if counts != last:
            last = counts
            _log.info("serving", extra={"fields": counts._asdict()})


def _busy(error: CoveyError, listen: Endpoint) -> StateError:
    return StateError(
        error.message,
        code=error.code,
        next_step=f"stop what uses UDP port {listen[1]}, or choose another: covey rendezvous --listen {listen[0]}:0",
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, next_step="covey rendezvous --help")


def parse_options(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """`UsageError` for a command line that makes no sense: ``usage``, ``bad-listen``, ``bad-advertise``."""
    parser = _Parser(
        prog="covey rendezvous",
        description="Help agents find each other. Prints the network's ticket as soon as it serves.",
        epilog="Without --listen it does what its last run did. Log lines go to standard error.",
        allow_abbrev=False,
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="where to serve; port 0 picks one")
    parser.add_argument(
        "--advertise",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="the address seen from outside, for the ticket; up to four times",
    )
    parser.add_argument(
        "--join",
        metavar="TICKET",
        action="append",
        default=[],
        help="the ticket of another rendezvous of the network, or of all others; ours is printed with them",
    )
    parser.add_argument(
        "--certificate", metavar="FILE", help="serve WebSockets over TLS, too, with this chain (PEM); needs --key"
    )
    parser.add_argument("--key", metavar="FILE", help="the certificate's private key (PEM)")
    parser.add_argument("--websocket", metavar="HOST:PORT", help="where to serve them; the host of --listen, port 443")
    parser.add_argument(
        "--advertise-websocket",
        metavar="HOST:PORT",
        action="append",
        default=[],
        help="where agents find them, for the ticket: a host that the certificate names; up to four times",
    )
    parser.add_argument("--home", metavar="DIR", help="where it keeps its identity and cache")
    parser.add_argument("--json", action="store_true", help="print and log JSON, one object a line")
    parser.add_argument("--log-level", metavar="LEVEL", help=f"{', '.join(logs.LEVELS)} (COVEY_LOG_LEVEL)")
    parser.add_argument(
        "--drain-timeout",
        metavar="SECONDS",
        type=float,
        default=DRAIN_SECONDS,
        help=f"how long clients may take to leave when it is stopped; {DRAIN_SECONDS:g}",
    )
    parser.add_argument(
        "--relay-rate",
        metavar="BYTES",
        type=int,
        default=0,
        help="bytes a second that are relayed for each client; 0, no limit",
    )
    parser.add_argument(
        "--jurisdiction",
        metavar="WORD",
        default="",
        help="where this rendezvous is, for agents that choose relays by it: eu, de, us-ca",
    )
    given = parser.parse_args(arguments)
    if not 0 <= given.relay_rate <= NUMBERS["relay_rate"]:
        raise UsageError(f"--relay-rate: 0 to {NUMBERS['relay_rate']} bytes per second")
    jurisdiction = check_value("jurisdiction", given.jurisdiction)
    if not 0 <= given.drain_timeout <= DRAIN_LIMIT:
        raise UsageError(f"--drain-timeout: 0 to {DRAIN_LIMIT:g} seconds")
    level = (given.log_level or environment.get("COVEY_LOG_LEVEL") or "info").lower()
    if level not in logs.LEVELS:
        raise UsageError(f"{level!r} is not a log level", next_step=f"use one of {', '.join(logs.LEVELS)}")
    listen = None if given.listen is None else _endpoint(given.listen, "listen", "0.0.0.0:4040")
    join = tuple(map(Ticket.parse, given.join))
    if (given.certificate is None) != (given.key is None):
        raise UsageError("--certificate and --key belong together", code="bad-certificate")
    return Options(
        listen,
        _advertised(given.advertise, "advertise", "rendezvous.example.com:4040"),
        given.home,
        given.json,
        level,
        given.drain_timeout,
        join,
        Relaying(True, given.relay_rate, jurisdiction),
        _file(given.certificate),
        _file(given.key),
        None if given.websocket is None else _endpoint(given.websocket, "websocket", "0.0.0.0:443"),
        _advertised(given.advertise_websocket, "advertise-websocket", "rendezvous.example.com:443"),
    )


def _file(given: str | None) -> str | None:
    """It is looked for again when it changes, wherever we are then."""
    return None if given is None else str(Path(given).absolute())


def _advertised(given: Sequence[str], option: str, example: str) -> tuple[str, ...]:
    advertise = tuple(dict.fromkeys(given))
    for each in advertise:
        if _endpoint(each, option, example)[1] == 0:
            raise UsageError(
                f"--{option} {each}: port 0 is nowhere",
                code="bad-advertise",
                next_step="give the port that agents can reach",
            )
    if len(advertise) > ADVERTISE_LIMIT:
        raise UsageError(f"a ticket holds at most {ADVERTISE_LIMIT} addresses", code="bad-advertise")
    return advertise


def _endpoint(text: str, option: str, example: str) -> Endpoint:
    try:
        return parse_endpoint(text)
    except ParseError as error:
        raise UsageError(
            f"--{option}: {error}",
            code=f"bad-{option}",
            next_step=f"for example: covey rendezvous --{option} {example}",
        ) from error
