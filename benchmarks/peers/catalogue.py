"""The rivals, by name and version, and what each needs beside its two ends."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.beside import holding, run, running
from benchmarks.install import Debian, debian, wheel
from benchmarks.lab import need_tun
from benchmarks.peers.certificates import make_certificate
from covey.bench.pair import Failed, Loopback, Prepared, Site, Subject

__all__ = ["available"]

_TUNNEL = frozenset({"stream", "first_connect"})
_LIBRARY = frozenset({"stream", "connect"})
_COUNTED = _LIBRARY | {"sessions"}
"""Those whose memory is that of our process at the serving end, and that give a client many sessions at once."""
_PORT = 4242
_MTU = 1420
"""Of tunnels, WireGuard's own; Nebula's default of 1300 is for the internet."""
_INSIDE = {"server": "10.78.0.1", "client": "10.78.0.2"}
"""Addresses in the tunnel."""


def available(report: Callable[[str], None]) -> list[Subject]:
    """All that can be fetched, in the order of the table; `report` hears why one cannot."""
    found = []
    for name, make in _RIVALS.items():
        try:
            found += make()
        except Failed as failed:
            report(f"{name} is left out: {failed}")
    return found


# --- libraries -------------------------------------------------------------------------------------------------------


def _library(
    package: str, version: str, *speakers: tuple[str, str, frozenset[str]], uvloop: bool = False
) -> list[Subject]:
    wheel(f"{package}=={version}")
    return [
        Subject(name.format(version), f"benchmarks.peers.{speaker}", can, uvloop=uvloop)
        for name, speaker, can in speakers
    ]


def _nats() -> list[Subject]:
    server = debian("nats-server")
    wheel("nats-py==2.16.0")
    name = f"NATS {server.version('nats-server')} TLS"
    return [Subject(name, "benchmarks.peers.nats:Nats", _LIBRARY, prepare=partial(_nats_server, server))]


@contextmanager
def _nats_server(server: Debian, site: Site, directory: Path) -> Iterator[Prepared]:
    address = site.address("server")
    files = make_certificate(str(directory), address)
    config = directory / "nats.conf"
    # The limit is on what waits for one subscriber: at the default of 64 MB a fast publisher loses it.
    config.write_text(
        f'listen: "{address}:{_PORT}"\nmax_pending: 1GB\n'
        f'tls {{ cert_file: "{files.chain}", key_file: "{files.key}" }}\n'
    )
    with running(site, "server", holding([server.program("nats-server"), "-c", str(config)], ready=":")):
        options = {"url": f"tls://{address}:{_PORT}", "authority": files.authority}
        yield Prepared(options={"server": options, "client": options})


# --- tunnels ---------------------------------------------------------------------------------------------------------


def _tunnel(name: str, prepare: Callable[[Site, Path], Iterator[Prepared]]) -> Subject:
    """Raw TCP through a device of the kernel, with whatever is behind it."""
    return Subject(name, "covey.bench.speakers:tcp", _TUNNEL, prepare=contextmanager(prepare))


def _nebula() -> list[Subject]:
    package = debian("nebula")
    return [_tunnel(f"Nebula {package.version('nebula')}", partial(_nebula_ends, package))]


def _nebula_ends(package: Debian, site: Site, directory: Path) -> Iterator[Prepared]:
    cert = package.program("nebula-cert")
    run([cert, "ca", "-name", "bench"], directory)
    with ExitStack() as stack:
        for end, inside in _INSIDE.items():
            run([cert, "sign", "-name", end, "-ip", f"{inside}/24"], directory)
            other = "client" if end == "server" else "server"
            config = directory / f"{end}.yml"
            config.write_text(
                _NEBULA.format(
                    directory=directory, end=end, port=_PORT, mtu=_MTU, other=_INSIDE[other], at=site.address(other)
                )
            )
            ready = f"until ip address show dev cv-tun 2>/dev/null | grep -q {inside}; do sleep 0.05; done"
            stack.enter_context(_device(site, end, [package.program("nebula"), "-config", str(config)], ready))
        yield Prepared(addresses=_INSIDE)


_NEBULA = """\
pki: {{ca: {directory}/ca.crt, cert: {directory}/{end}.crt, key: {directory}/{end}.key}}
static_host_map: {{"{other}": ["{at}:{port}"]}}
lighthouse: {{am_lighthouse: false, hosts: []}}
listen: {{host: 0.0.0.0, port: {port}, read_buffer: 10485760, write_buffer: 10485760}}
tun: {{dev: cv-tun, mtu: {mtu}, tx_queue: 5000}}
logging: {{level: warning, format: text}}
firewall:
  conntrack: {{tcp_timeout: 12m, udp_timeout: 3m, default_timeout: 10m}}
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""


def _wireguard() -> list[Subject]:
    package = debian("wireguard-go", "wireguard-tools")
    return [_tunnel(f"wireguard-go {package.version('wireguard-go')}", partial(_wireguard_ends, package))]


def _wireguard_ends(package: Debian, site: Site, directory: Path) -> Iterator[Prepared]:
    keys = {end: X25519PrivateKey.generate() for end in _INSIDE}
    with ExitStack() as stack:
        for end, inside in _INSIDE.items():
            other = "client" if end == "server" else "server"
            config = directory / f"{end}.conf"
            config.touch(mode=0o600)
            config.write_text(
                f"[Interface]\nPrivateKey = {_base64(keys[end].private_bytes_raw())}\nListenPort = {_PORT}\n"
                f"[Peer]\nPublicKey = {_base64(keys[other].public_key().public_bytes_raw())}\n"
                f"AllowedIPs = {_INSIDE[other]}/32\nEndpoint = {site.address(other)}:{_PORT}\n"
            )
            ready = (
                "until [ -S /run/wireguard/cv-tun.sock ]; do sleep 0.05; done; "
                f"{package.program('wg')} setconf cv-tun {shlex.quote(str(config))} && "
                f"ip address add {inside}/24 dev cv-tun && ip link set cv-tun mtu {_MTU} up"
            )
            program = [package.program("wireguard-go"), "--foreground", "cv-tun"]
            stack.enter_context(_device(site, end, program, ready))
        yield Prepared(addresses=_INSIDE)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@contextmanager
def _device(site: Site, end: str, program: Sequence[str], ready: str) -> Iterator[None]:
    """A program with a TUN device, at one end, with a /run of its own; `ready` waits for it and sets it up."""
    if isinstance(site, Loopback):
        raise Failed("a tunnel needs two network namespaces")
    need_tun()
    argv = holding(program, before="mount -t tmpfs none /run && mkdir /run/wireguard", ready=ready)
    with running(site, end, ["unshare", "-m", *argv]):
        yield


_RIVALS: dict[str, Callable[[], list[Subject]]] = {
    "aioquic": partial(_library, "aioquic", "1.7.2", ("aioquic {}", "aioquic:Aioquic", _COUNTED)),
    "iroh": partial(_library, "iroh", "1.2.0", ("iroh {}", "iroh:Iroh", _COUNTED)),
    "zenoh": partial(
        _library,
        "eclipse-zenoh",
        "1.10.2",
        ("zenoh {} QUIC", "zenoh:quic", _LIBRARY),
        ("zenoh {} TLS", "zenoh:tls", _COUNTED),
    ),
    "NATS": _nats,
    "Nebula": _nebula,
    "wireguard-go": _wireguard,
    "uvloop": partial(_library, "uvloop", "0.23.0", ("TLS on uvloop {}", "plain:tls", _COUNTED), uvloop=True),
}
