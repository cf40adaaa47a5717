"""What runs on a box: an HTTP proxy, or miniupnpd."""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Final

from covey.base.errors import CoveyError, StateError
from covey.lab import proxy, rules
from covey.lab.machine import Machine

__all__ = ["PASSWORD", "PROXY_PORT", "USER", "proxy_url", "start"]

PROXY_PORT: Final = 3128
USER: Final = "lab"
PASSWORD: Final = "let@me:in"  # noqa: S105 - of the lab's own proxy; a URL must escape two of its characters
_ESCAPED: Final = "let%40me%3Ain"
_MINIUPNPD: Final = "/usr/sbin/miniupnpd"
_AWAIT_UPNP: Final = "for try in $(seq 500); do grep -q :14E7 /proc/net/udp && exit; sleep 0.02; done; exit 1"
"""Until it listens at UDP port 5351, the last that it opens; at most ten seconds."""


def proxy_url(box: Machine) -> str:
    """What a machine behind `box` has in HTTPS_PROXY."""
    return f"http://{USER}:{_ESCAPED}@{box.lan}.1:{PROXY_PORT}"


def start(box: Machine, directory: Path) -> None:
    """Starts what the box' kind says and waits until it serves. `directory`: for its files."""
    assert box.kind is not None
    if box.kind.proxy:
        _start_proxy(box)
    if box.kind.upnp:
        _start_upnp(box, directory)


def _start_proxy(box: Machine) -> None:
    argv = [sys.executable, "-I", "-S", str(Path(proxy.__file__).resolve()), f"{box.lan}.1", str(PROXY_PORT)]
    started = box.popen([*argv, USER, PASSWORD], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert started.stdout is not None
    with started.stdout:
        if started.stdout.readline().strip() != proxy.READY:
            raise CoveyError(f"in {box.name}: the proxy did not start", code="lab-command-failed")


def _start_upnp(box: Machine, directory: Path) -> None:
    program = shutil.which("miniupnpd") or _MINIUPNPD
    if not Path(program).exists():
        raise StateError(
            "the kind `upnp` needs miniupnpd",
            code="lab-unavailable",
            next_step="apt-get install --no-install-recommends miniupnpd miniupnpd-nftables",
        )
    settings = directory / f"{box.name}.miniupnpd.conf"
    lines = {
        "ext_ifname": "wan",
        "listening_ip": "lan",
        "http_port": "0",
        "enable_natpmp": "yes",
        "enable_upnp": "yes",
        "secure_mode": "yes",
        "min_lifetime": "120",
        "max_lifetime": "86400",
        "upnp_table_name": rules.TABLE,
        "upnp_nat_table_name": rules.TABLE,
        **rules.UPNP_CHAINS,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, box.name)),
    }
    text = "".join(f"{name}={value}\n" for name, value in lines.items())
    settings.write_text(f"{text}allow 1024-65535 0.0.0.0/0 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n")
    number = directory / f"{box.name}.miniupnpd.pid"
    number.unlink(missing_ok=True)  # of one that was killed: it would be believed
    with (directory / f"{box.name}.miniupnpd.log").open("w") as log:
        box.popen(
            [program, "-d", "-f", str(settings), "-P", str(number)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    box.run("sh", "-c", _AWAIT_UPNP)
