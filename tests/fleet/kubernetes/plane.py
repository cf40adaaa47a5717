"""A real Kubernetes control plane without root: etcd, API server, controller manager and scheduler as processes.

What runs the pods is beside it, `tests.fleet.kubernetes.node`. Certificates and tokens are made here. The programs come
from `make kubernetes`.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["PROGRAMS", "Plane", "Popen", "free_ports", "programs", "ready"]

PROGRAMS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_ROOT: Final = Path(__file__).parents[3]
_CONTROLLERS: Final = (
    "deployment,replicaset,disruption,resourcequota,namespace,nodelifecycle,podgc,endpoint,garbagecollector,"
    "serviceaccount,serviceaccount-token,horizontalpodautoscaling"
)

Popen = Callable[..., "subprocess.Popen[Any]"]
"""As `subprocess.Popen`, or a machine's of the lab."""


def programs() -> Path | None:
    """Where `make kubernetes` put them; None if it has not run."""
    asked = subprocess.run(
        ["sh", "scripts/kubernetes_build.sh", "--path"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    return Path(asked.stdout.strip()) if asked.returncode == 0 else None


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody holds now."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Plane:
    """One cloud's control plane. The API is at `https://IP:PORT`, for everybody who has a token of it."""

    def __init__(
        self,
        name: str,
        directory: Path,
        where: Path,
        *,
        ip: str = "127.0.0.1",
        ports: Sequence[int] | None = None,
        popen: Popen = subprocess.Popen,
    ) -> None:
        self.name = name
        self.directory = directory
        self.ip = ip
        self.port, self._etcd, self._peer = ports or free_ports(3)
        self.running: dict[str, subprocess.Popen[Any]] = {}
        """By program's name; `node` among them."""
        self.tokens = {"admin": secrets.token_hex(16), "covey": secrets.token_hex(16)}
        self._where = where
        self._popen = popen
        directory.mkdir(parents=True)
        self._certify()
        rows = [
            f"{token},{user},{user}{',system:masters' if user == 'admin' else ''}"
            for user, token in self.tokens.items()
        ]
        (directory / "tokens.csv").write_text("\n".join(rows) + "\n")
        self.admin = self.kubeconfig("admin")

    @property
    def server(self) -> str:
        return f"https://{self.ip}:{self.port}"

    @property
    def ca(self) -> Path:
        return self.directory / "ca.pem"

    def kubeconfig(self, user: str, *, server: str = "") -> Path:
        """A kubeconfig with one context, named like the plane. `covey` may nothing until a role is bound to it."""
        path = self.directory / f"{user}{'-' + secrets.token_hex(2) if server else ''}.kubeconfig"
        path.write_text(json.dumps(self.config(user, server=server)))  # YAML, too
        return path

    def config(self, user: str, *, server: str = "") -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": self.name,
            "clusters": [
                {
                    "name": self.name,
                    "cluster": {"server": server or self.server, "certificate-authority": str(self.ca)},
                }
            ],
            "users": [{"name": f"{user}@{self.name}", "user": {"token": self.tokens[user]}}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": f"{user}@{self.name}"}}],
        }

    # --- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts everything. What uses the API waits for it by itself."""
        self.start_etcd()
        self.start_api()
        self.start_controllers()

    def start_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
        self._run(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        )

    def start_api(self) -> None:
        at = self.directory
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            f"--bind-address={'0.0.0.0' if self.ip != '127.0.0.1' else self.ip}",
            f"--advertise-address={self.ip}",
            f"--secure-port={self.port}",
            "--insecure-port=0",
            f"--cert-dir={at}",
            f"--tls-cert-file={at / 'server.pem'}",
            f"--tls-private-key-file={at / 'server.key'}",
            f"--token-auth-file={at / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            f"--service-account-issuer=https://{self.name}.test",
            f"--service-account-key-file={at / 'accounts.key'}",
            f"--service-account-signing-key-file={at / 'accounts.key'}",
            "--service-cluster-ip-range=10.250.0.0/24",
            "--endpoint-reconciler-type=none",
            # Nobody here mounts the token of a service account into a pod.
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
        )

    def start_controllers(self) -> None:
        self._run(
            "kube-controller-manager",
            f"--kubeconfig={self.admin}",
            f"--controllers={_CONTROLLERS}",
            f"--service-account-private-key-file={self.directory / 'accounts.key'}",
            "--leader-elect=false",
            "--port=0",
            "--secure-port=0",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        )
        self._run("kube-scheduler", f"--kubeconfig={self.admin}", "--leader-elect=false", "--port=0", "--secure-port=0")

    def start_node(self, nodes: Sequence[dict[str, Any]], *, network: str = "127.77") -> None:
        """The stand-in for the kubelets of all nodes of this cloud, `tests.fleet.kubernetes.node`."""
        (self.directory / "nodes.json").write_text(json.dumps(nodes))
        program = [sys.executable, "-P", str(Path(__file__).with_name("node.py"))]
        files = [self.admin, self.directory / "nodes.json", self.directory / "pods"]
        self._start("node", [*program, *map(str, files), network])

    def kill(self, *names: str) -> None:
        """SIGKILL: to all if none is named. A node that dies so takes its pods with it."""
        for name in names or tuple(self.running):
            process = self.running.pop(name, None)
            if process is not None:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()

    def close(self) -> None:
        node = self.running.get("node")
        if node is not None:  # its pods first
            with suppress(ProcessLookupError):
                node.send_signal(signal.SIGKILL)
        self.kill()

    def is_ready(self) -> bool:
        """Whether the API answers and is ready."""
        return ready(self.server, str(self.ca), self.tokens["admin"])

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _run(self, program: str, *arguments: str) -> None:
        self._start(program, [str(self._where / program), *arguments])

    def _start(self, name: str, argv: Sequence[str]) -> None:
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = self._popen(
                argv,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "GOMAXPROCS": "2", "no_proxy": "*"},
                start_new_session=True,
            )

    def _certify(self) -> None:
        """A certificate that is its own authority, and the key of the service accounts."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.name} of the tests")])
        now = datetime.datetime.now(datetime.UTC)
        addresses = {ipaddress.ip_address(each) for each in ("127.0.0.1", self.ip)}
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(each) for each in sorted(addresses, key=str)]),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.directory / "server.pem").write_bytes(self.ca.read_bytes())
        (self.directory / "server.key").write_bytes(_pem(key))
        (self.directory / "accounts.key").write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))


def ready(server: str, ca: str, token: str) -> bool:
    """Whether the API server is."""
    context = ssl.create_default_context(cafile=ca)
    request = urllib.request.Request(f"{server}/readyz", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=2.0, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
