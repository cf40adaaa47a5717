"""What relaying by WebSocket costs beside relaying by UDP, in one run: `python -m benchmarks.websocket`.

Two whole nodes that reach each other only by way of a rendezvous, which is a third process; each way of relaying gets
its own three. Then the memory of a rendezvous for each client that is there by WebSocket. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import sites
from benchmarks.beside import holding, running
from benchmarks.relay import RELAYED
from covey.bench.measures import MEASURES, Scale
from covey.bench.pair import Failed, Pair, Prepared, Site, Subject
from covey.net.websocket_client import open_websocket
from covey.net.websocket_server import Certificate, ListenerLimits, WebSocketListener
from covey.wire.ticket import Ticket
from tests.net.tls import certificate

_NOWHERE = 9
"""The discard port: nobody answers there."""


@contextmanager
def _by_websocket(site: Site, directory: Path, *, port: int, server_too: bool = True) -> Iterator[Prepared]:
    """A rendezvous with a certificate. Where an end is to do without UDP it is told of UDP where there is nothing."""
    address = site.address("relay")
    files = certificate(directory, address)
    os.environ["SSL_CERT_FILE"] = files.authority
    argv = [sys.executable, "-m", "covey.rendezvous", "--listen", f"{address}:{port}", "--home", str(directory / "rv")]
    argv += ["--drain-timeout", "0", "--certificate", files.certificate, "--key", files.key]
    argv += ["--websocket", f"{address}:{port}"]
    pid_file = directory / "rendezvous.pid"
    with running(site, "relay", holding(argv, pid_file=pid_file)) as ticket:
        (entry,) = Ticket.parse(ticket.strip()).entries
        deaf = str(Ticket((replace(entry, endpoints=(f"{address}:{_NOWHERE}",)),)))
        carriers = {f"{address}:{port}": str(pid_file)}
        near = {"ticket": deaf, "path": "relay", "carriers": carriers}
        far = near if server_too else {**near, "ticket": ticket.strip()}
        yield Prepared(options={"server": far, "client": near})


_NODE = "covey.bench.speakers:CoveyNode"
SUBJECTS = {
    "udp": RELAYED,
    "websocket": Subject("covey", _NODE, prepare=partial(_by_websocket, port=4140)),
    "websocket to udp": Subject("covey", _NODE, prepare=partial(_by_websocket, port=4240, server_too=False)),
}


def measure(runs: int, seconds: float) -> dict[str, dict[str, float]]:
    """Medians, by way and metric. The ways take turns."""
    values: dict[str, dict[str, list[float]]] = {name: {} for name in SUBJECTS}
    scale = Scale(seconds=seconds)
    with sites.relayed() as site, ExitStack() as stack:
        pairs = {name: stack.enter_context(Pair.started(subject, site)) for name, subject in SUBJECTS.items()}
        for _ in range(runs):
            for what in ("bulk", "round_trips_two_cores"):
                for name, pair in pairs.items():
                    for metric, value in MEASURES[what].run(pair, scale).items():
                        values[name].setdefault(metric, []).append(value)
    return {name: {metric: statistics.median(each) for metric, each in found.items()} for name, found in values.items()}


async def memory(clients: int) -> dict[str, float]:
    """Bytes of a serving process for each connection that is open and silent."""
    with tempfile.TemporaryDirectory() as name:
        files = certificate(Path(name), "127.0.0.1")
        os.environ["SSL_CERT_FILE"] = files.authority
        argv = [sys.executable, "-m", "benchmarks.websocket", "--serve", files.certificate, files.key]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        number = int(await process.stdout.readline())
        try:
            before = _private_bytes(process.pid)
            ports = [await open_websocket(("127.0.0.1", number), {}) for _ in range(clients)]
            after = _private_bytes(process.pid)
            assert all(port.is_open for port in ports)
            for port in ports:
                port.close()
        finally:
            process.terminate()
            await process.wait()
    return {"clients": clients, "before_bytes": before, "bytes_per_connection": (after - before) / clients}


async def serve(certificate_file: str, key: str) -> None:
    """A listener for whom everybody is a client; prints its port."""
    port = WebSocketListener(
        ("127.0.0.1", 0),
        Certificate(certificate_file, key).context,
        on_open=lambda port: None,
        is_used=lambda port: True,
        limits=ListenerLimits(strangers=100_000, strangers_per_network=100_000, per_second=1e6, burst=1e6),
    )
    port.start()
    print(port.address[1], flush=True)
    await asyncio.Event().wait()


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.websocket", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each transfer")
    parser.add_argument("--clients", type=int, default=1000, help="connections for the measure of memory")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        asyncio.run(serve(*given.serve))
    try:
        found = measure(given.runs, given.seconds)
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    udp = found["udp"]["bulk_gbit_s"]
    result = {
        "ways": found,
        "bulk_by_udp": {name: round(each["bulk_gbit_s"] / udp, 3) for name, each in found.items()},
        "memory": asyncio.run(memory(given.clients)),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
