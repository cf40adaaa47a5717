"""Stands in for the kubelets of one cluster: runs the commands of the pods that are bound to its nodes as processes.

    python node.py KUBECONFIG NODES.json DIRECTORY NETWORK

What a kubelet promises and a controller of fleets can see is kept: a pod gets an address of its own and its environment
(fields, secrets), its probe decides whether it is ready, it is restarted with back-off, it gets SIGTERM and its grace,
and goes from the API only when its process is gone. Without the API everything runs on. Processes die with this one.
What happened is written to DIRECTORY/events.jsonl. There are no images: a pod without a command never starts.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import datetime
import itertools
import json
import os
import signal
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node, NodeStatus, Pod, PodStatus, Secret

HEARTBEAT: Final = 5.0
AGAIN: Final = 0.5
"""Seconds between attempts to reach the API."""
MOST_BACK_OFF: Final = 5.0
FAILURES = (ApiError, httpx2.HTTPError, OSError)


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def stamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Kubelet:
    """All nodes of one cluster."""

    def __init__(self, config: str, nodes: list[dict[str, Any]], directory: Path, network: str) -> None:
        self.client = AsyncClient(KubeConfig.from_file(config).get(), timeout=httpx2.Timeout(5.0), trust_env=False)
        self.nodes = {each["name"]: each for each in nodes}
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.events = (directory / "events.jsonl").open("a", buffering=1)
        self.pods: dict[str, Running] = {}
        self.addresses = (f"{network}.{i // 200}.{i % 200 + 10}" for i in itertools.count(int(time.time()) % 20000))

    def say(self, event: str, pod: str, **more: Any) -> None:
        self.events.write(json.dumps({"t": time.time(), "event": event, "pod": pod, **more}) + "\n")

    async def run(self) -> None:
        await asyncio.gather(self._nodes(), self._pods())

    async def _nodes(self) -> None:
        made: set[str] = set()
        while True:
            for name, node in self.nodes.items():
                try:
                    if name not in made:
                        await self._make(name, node)
                        made.add(name)
                    await self.client.patch(NodeStatus, name, {"status": status_of(node)})
                except FAILURES:
                    break
            await asyncio.sleep(HEARTBEAT if len(made) == len(self.nodes) else AGAIN)

    async def _make(self, name: str, node: dict[str, Any]) -> None:
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/arch": "amd64", **node.get("labels", {})}
        try:
            await self.client.create(Node(metadata=ObjectMeta(name=name, labels=labels)))
        except ApiError as error:
            if error.status.code != 409:
                raise

    async def _pods(self) -> None:
        while True:
            with suppress(*FAILURES):
                listed = self.client.list(Pod, namespace="*")
                pods = [each async for each in listed]
                here = {each.metadata.uid for each in pods}
                for uid in [each for each in self.pods if each not in here]:
                    self.pods[uid].gone()
                for each in pods:
                    self.take(each)
                async for event, pod in self.client.watch(
                    Pod, namespace="*", resource_version=listed.resourceVersion, server_timeout=60
                ):
                    if event == "DELETED" and pod.metadata.uid in self.pods:
                        self.pods[pod.metadata.uid].gone()
                    elif event != "DELETED":
                        self.take(pod)
            await asyncio.sleep(AGAIN)

    def take(self, pod: Any) -> None:
        """A pod as the API has it now."""
        if pod.spec.nodeName not in self.nodes or (pod.status and pod.status.phase in ("Succeeded", "Failed")):
            return
        running = self.pods.get(pod.metadata.uid)
        if running is None:
            running = self.pods[pod.metadata.uid] = Running(self, pod)
        running.update(pod)


class Running:
    """One pod: its process, and what the API is told about it."""

    def __init__(self, kubelet: Kubelet, pod: Any) -> None:
        self.kubelet = kubelet
        self.pod = pod
        self.name = pod.metadata.name
        self.ip = (pod.status and pod.status.podIP) or next(kubelet.addresses)
        before = (pod.status and pod.status.containerStatuses) or []
        self.restarts = before[0].restartCount + (1 if before[0].containerID else 0) if before else 0
        self.process: asyncio.subprocess.Process | None = None
        self.started = ""
        self.ready = False
        self.waiting = ""
        self.stopping = asyncio.Event()
        self.abandoned = False
        self.changed = asyncio.Event()
        self.tasks = [asyncio.create_task(self._live()), asyncio.create_task(self._tell())]

    def update(self, pod: Any) -> None:
        self.pod = pod
        if pod.metadata.deletionTimestamp is not None:
            self.stopping.set()
        told = next((each for each in (pod.status and pod.status.conditions) or [] if each.type == "Ready"), None)
        if self.started and (told is None or (told.status == "True") != self.ready):
            self.changed.set()  # the node controller thought we were gone; a kubelet sets that right, too

    def gone(self) -> None:
        """It was deleted without us: its process goes at once."""
        self.abandoned = True
        self.stopping.set()

    # --- its process -----------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        back_off = 0.5
        while not self.stopping.is_set():
            try:
                await self._start()
            except FAILURES as error:
                self.waiting = f"CreateContainerError: {error}"
                self.changed.set()
                await self._pause(1.0)
                continue
            assert self.process is not None
            probing = asyncio.create_task(self._probe())
            exited = asyncio.create_task(self.process.wait())
            stopped = asyncio.create_task(self.stopping.wait())
            await asyncio.wait({exited, stopped}, return_when=asyncio.FIRST_COMPLETED)
            probing.cancel()
            stopped.cancel()
            if self.stopping.is_set():
                await self._end(exited)
                break
            self.kubelet.say("exit", self.name, code=self.process.returncode)
            self.ready, self.waiting = False, "CrashLoopBackOff"
            self.restarts += 1
            self.changed.set()
            await self._pause(back_off)
            back_off = min(2 * back_off, MOST_BACK_OFF)
        await self._forget()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    async def _start(self) -> None:
        container = self.pod.spec.containers[0]
        argv = [*(container.command or []), *(container.args or [])]
        if not argv:
            raise OSError(f"no image {container.image} here, and no command")
        place = self.kubelet.directory / self.pod.metadata.uid
        place.mkdir(exist_ok=True)
        env = await self._environment(container, place)
        with (self.kubelet.directory / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *argv, env=env, cwd=place, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=die_with_parent,
            )  # fmt: skip
        self.started, self.waiting = stamp(), ""
        self.ready = container.readinessProbe is None
        self.kubelet.say("start", self.name, ip=self.ip, node=self.pod.spec.nodeName, pid=self.process.pid)
        self.changed.set()

    async def _environment(self, container: Any, place: Path) -> dict[str, str]:
        mounts = await self._mounts(container, place)
        env = {"PATH": os.environ["PATH"], "HOSTNAME": self.name}
        fields = {
            "metadata.name": self.name,
            "metadata.namespace": self.pod.metadata.namespace,
            "metadata.uid": self.pod.metadata.uid,
            "status.podIP": self.ip,
            "spec.nodeName": self.pod.spec.nodeName,
        }
        for each in container.env or []:
            value, source = each.value or "", each.valueFrom
            if source is not None and source.fieldRef is not None:
                value = fields[source.fieldRef.fieldPath]
            elif source is not None and source.secretKeyRef is not None:
                value = (await self._secret(source.secretKeyRef.name))[source.secretKeyRef.key]
            for path, real in mounts.items():  # there are no mount namespaces here
                value = value.replace(path, real) if value.startswith(path) else value
            env[each.name] = value
        return env

    async def _mounts(self, container: Any, place: Path) -> dict[str, str]:
        volumes = {each.name: each for each in self.pod.spec.volumes or []}
        found = {}
        for mount in container.volumeMounts or []:
            real = place / mount.name
            real.mkdir(exist_ok=True)
            found[mount.mountPath] = str(real)
            secret = volumes[mount.name].secret
            if secret is None:
                continue
            values = await self._secret(secret.secretName)
            paths = {each.key: each.path for each in secret.items or []} or {key: key for key in values}
            if not paths.keys() <= values.keys():  # a kubelet waits for it, too
                raise OSError(f"the secret {secret.secretName} has no {', '.join(paths.keys() - values.keys())} yet")
            for key, path in paths.items():
                (real / path).write_text(values[key])
        return found

    async def _secret(self, name: str) -> dict[str, str]:
        secret = await self.kubelet.client.get(Secret, name, namespace=self.pod.metadata.namespace)
        return {key: base64.b64decode(value).decode() for key, value in (secret.data or {}).items()}

    async def _end(self, exited: asyncio.Task[int]) -> None:
        assert self.process is not None
        grace = 0.0 if self.abandoned else float(self.pod.metadata.deletionGracePeriodSeconds or 0)
        self.kubelet.say("term", self.name, grace=grace)
        self.ready = False
        self.changed.set()
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM if grace else signal.SIGKILL)
        if not (await asyncio.wait({exited}, timeout=grace or 5.0))[0]:
            self.kubelet.say("kill", self.name)
            with suppress(ProcessLookupError):
                self.process.kill()
        await exited
        self.kubelet.say("end", self.name, code=self.process.returncode)

    async def _forget(self) -> None:
        """Its process is gone, so it may go from the API."""
        while not self.abandoned:
            try:
                await self.kubelet.client.delete(Pod, self.name, namespace=self.pod.metadata.namespace, grace_period=0)
                break
            except ApiError as error:
                if error.status.code == 404:
                    break
            except FAILURES:
                pass
            await asyncio.sleep(AGAIN)
        self.tasks[1].cancel()
        self.kubelet.pods.pop(self.pod.metadata.uid, None)

    # --- its probe -------------------------------------------------------------------------------------------------

    async def _probe(self) -> None:
        probe = self.pod.spec.containers[0].readinessProbe
        if probe is None:
            return
        good = bad = 0
        await asyncio.sleep(probe.initialDelaySeconds or 0)
        while True:
            fine = await self._ask(probe)
            good, bad = (good + 1, 0) if fine else (0, bad + 1)
            ready = self.ready
            if good >= (probe.successThreshold or 1):
                ready = True
            elif bad >= (probe.failureThreshold or 3):
                ready = False
            if ready != self.ready:
                self.ready = ready
                self.kubelet.say("ready" if ready else "unready", self.name)
                self.changed.set()
            await asyncio.sleep((probe.periodSeconds or 10) if self.ready else 0.2)

    async def _ask(self, probe: Any) -> bool:
        timeout = probe.timeoutSeconds or 1
        if probe.exec is not None:
            asked = await asyncio.create_subprocess_exec(
                *probe.exec.command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            return await asked.wait() == 0
        target = probe.httpGet or probe.tcpSocket
        if probe.httpGet is None:
            with suppress(OSError, TimeoutError):
                _, writer = await asyncio.wait_for(asyncio.open_connection(self.ip, int(target.port)), timeout)
                writer.close()
                return True
            return False
        url = f"http://{self.ip}:{target.port}{target.path}"
        try:
            return await asyncio.to_thread(lambda: 200 <= urllib.request.urlopen(url, timeout=timeout).status < 400)
        except (OSError, ValueError):
            return False

    # --- what the API is told --------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        """The newest status until it was taken; a status that is overtaken meanwhile is never told."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            try:
                await self.kubelet.client.patch(
                    PodStatus, self.name, {"status": self._status()}, namespace=self.pod.metadata.namespace
                )
            except ApiError as error:
                if error.status.code != 404:
                    self.changed.set()
                    await asyncio.sleep(AGAIN)
            except FAILURES:
                self.changed.set()
                await asyncio.sleep(AGAIN)

    def _status(self) -> dict[str, Any]:
        container = self.pod.spec.containers[0]
        state: dict[str, Any] = {"running": {"startedAt": self.started}}
        if self.waiting:
            state = {"waiting": {"reason": self.waiting.partition(":")[0], "message": self.waiting}}
        truth = "True" if self.ready else "False"
        return {
            "phase": "Running" if self.started else "Pending",
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "startTime": self.started or stamp(),
            "conditions": [
                {"type": "Initialized", "status": "True", "lastTransitionTime": stamp()},
                {"type": "ContainersReady", "status": truth, "lastTransitionTime": stamp()},
                {"type": "Ready", "status": truth, "lastTransitionTime": stamp()},
            ],
            "containerStatuses": [
                {
                    "name": container.name,
                    "image": container.image,
                    "imageID": "",
                    "ready": self.ready,
                    "restartCount": self.restarts,
                    "state": state,
                    **({"containerID": f"process://{self.process.pid}"} if self.process is not None else {}),
                }
            ],
        }


def status_of(node: dict[str, Any]) -> dict[str, Any]:
    room = {"cpu": str(node.get("cpu", 4)), "memory": node.get("memory", "16Gi"), "pods": str(node.get("pods", 50))}
    return {
        "capacity": room,
        "allocatable": room,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "it runs",
                "lastHeartbeatTime": stamp(),
            }
        ],
    }


if __name__ == "__main__":
    _, kubeconfig, nodes_file, where, prefix = sys.argv
    asyncio.run(Kubelet(kubeconfig, json.loads(Path(nodes_file).read_text()), Path(where), prefix).run())
