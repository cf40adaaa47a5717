"""Kill daemons in the middle of their work, and count what was lost: nothing may be.

    python scripts/kill_test.py [--messages 2000] [--seed N] [--rounds 1] [--seconds 45] [--keep]

One rendezvous and two agents that trust each other, all real processes in a temporary directory. Both agents
send at the same time, through the local API as a program would: single messages and batches, with ids made by
the client, waiting 0 to 1 s for the delivery. Meanwhile a killer ends A, B, the rendezvous, or several of
them, with SIGKILL at random moments (also while they start), and starts them again up to 2 s later. A careful
client repeats a call that died, with the same ids; some calls are deliberately not repeated, and some that
succeeded are.

What the API called `delivered` or `queued` is a promise. At the end, when everything runs and the outboxes
are empty, both inboxes must hold each promised message exactly once, unaltered, in the order of the promises
of each client, and nothing that was never sent. What was called `delivered` is also looked for in the
recipient's inbox while the sender is dead.

Moments are random and the machine decides what meets what, so a seed repeats the plan of a run, not the run.
When something is wrong the directory with all logs, databases and `events.log` is kept, and its place is
printed.

Exit status: 0 nothing wrong, 1 a violation, 2 it could not run, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import itertools
import json
import random
import secrets
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.processes import Agent, Answer, Api, Gone, RendezvousProcess, eventually

__all__ = ["Plan", "Result", "main", "run"]

LANES: Final = 2
"""Clients that send at the same time at each agent. Each has an order of its own."""
PROMISES: Final = frozenset(("delivered", "queued"))
RETRY_SECONDS: Final = 0.05
"""Between tries of a client whose daemon is away."""
GIVE_UP_SECONDS: Final = 60.0
"""A daemon that is started again within 2 s and does not answer for this long never will."""
DRAIN_SECONDS: Final = 120.0
"""From the last restart until both outboxes must be empty."""
TRUST_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Plan:
    """What a run is made of; the seed decides the rest."""

    messages: int = 2000
    seed: int = 0
    seconds: float = 45.0
    """How long the sending shall take, roughly: the clients pause accordingly."""
    keep: bool = False
    restart_seconds: float = 2.0
    """The longest time that a victim stays dead."""
    kill_pause: float = 3.0
    """Mean seconds that one victim runs between two kills."""


@dataclass
class Message:
    """One entry of the ledger. `index` is its place in the order of its client."""

    id: str
    lane: tuple[str, int]
    index: int
    type: str
    body: bytes
    begun: float = 0.0
    """Wall time of the first call, the clock that the inbox uses."""
    promised: float = 0.0
    answers: list[str] = field(default_factory=list)
    """What every call said: a result, an error code, or `gone`."""

    @property
    def is_promised(self) -> bool:
        return bool(PROMISES.intersection(self.answers))


@dataclass
class Result:
    """What a round found. `violations` must be empty."""

    seed: int
    seconds: float = 0.0
    drain_seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    delays: list[float] = field(default_factory=list)
    """Seconds from a message's first call until it was in the inbox."""
    stalls: list[float] = field(default_factory=list)
    """Per message, the longest stretch of its waiting in which everything ran: not the killer's fault."""
    together: float = 0.0
    """Seconds in which everything ran."""
    violations: list[str] = field(default_factory=list)
    kept: Path | None = None


class Stage:
    """The processes of one round, and its log of events."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.rendezvous = RendezvousProcess(directory / "rendezvous")
        self.a = Agent(directory, "a", "kill-a")
        self.b = Agent(directory, "b", "kill-b")
        self.agents = {"A": self.a, "B": self.b}
        self.victims: dict[str, Agent | RendezvousProcess] = {**self.agents, "rendezvous": self.rendezvous}
        self.begun = time.monotonic()
        self.together: list[tuple[float, float]] = []
        """Wall times between which everything ran."""
        self._up: set[str] = set()
        self._together_since = 0.0
        self._events = (directory / "events.log").open("w")
        self._lock = threading.Lock()

    def log(self, text: str) -> None:
        with self._lock:
            if not self._events.closed:
                self._events.write(f"{time.time():.6f} {time.monotonic() - self.begun:9.3f} {text}\n")
                self._events.flush()

    def is_up(self, name: str) -> None:
        with self._lock:
            if name not in self._up:
                self._up.add(name)
                self._together_since = time.time()

    def is_down(self, name: str) -> None:
        with self._lock:
            if len(self._up) == len(self.victims):
                self.together.append((self._together_since, time.time()))
            self._up.discard(name)

    def seconds_together(self) -> float:
        return sum(last - first for first, last in self.together)

    def longest_together(self, begin: float, end: float) -> float:
        """The longest stretch between two moments in which everything ran."""
        return max((min(end, last) - max(begin, first) for first, last in self.together), default=0.0)

    def set_up(self) -> None:
        """Starts everything and makes the agents trust each other."""
        ticket = self.rendezvous.start()
        for agent in self.agents.values():
            agent.ticket = ticket
            agent.start()
        eventually(lambda: self.a.api.post("/v1/handshake", peer=self.b.name).ok, "A asks B", TRUST_SECONDS, 0.1)
        eventually(lambda: self.b.api.post("/v1/handshake", peer=self.a.name).ok, "B asks A", TRUST_SECONDS, 0.1)
        for agent in self.agents.values():
            eventually(lambda agent=agent: _trusts_all(agent), f"{agent.name} trusts", TRUST_SECONDS, 0.1)
        for name in self.victims:
            self.is_up(name)

    def end(self) -> None:
        for process in (*self.agents.values(), self.rendezvous):
            process.end()
        with self._lock:
            self._events.close()


def _trusts_all(agent: Agent) -> bool:
    peers = agent.api.get("/v1/peers").data["items"]
    return bool(peers) and all(peer["trust"] == "trusted" for peer in peers)


class Killer:
    """Ends and restarts victims until `stop`: one thread for each, which sometimes takes others along."""

    def __init__(self, stage: Stage, plan: Plan, result: Result, failed: Callable[[str], None]) -> None:
        self._stage = stage
        self._plan = plan
        self._result = result
        self._failed = failed
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(name,), daemon=True) for name in stage.victims]
        self.holding = {name: threading.Lock() for name in stage.victims}
        """Held by whoever decides whether this victim runs."""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Returns when nobody kills or starts anything any more; then some may be down."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, name: str) -> None:
        dice = random.Random(f"{self._plan.seed} killer {name}")
        others = [other for other in self._stage.victims if other != name]
        try:
            while not self._stop.wait(dice.expovariate(1 / self._plan.kill_pause)):
                count = dice.choices((0, 1, len(others)), weights=(76, 19, 5))[0]
                company = dice.sample(others, count)
                with contextlib.ExitStack() as held:
                    held.enter_context(self.holding[name])
                    victims = [name, *(other for other in company if self._try_to_hold(other, held))]
                    self._kill_and_restart(dice, victims)
        except Exception as error:
            self._failed(f"killer of {name}: {type(error).__name__}: {error}")

    def _try_to_hold(self, name: str, held: contextlib.ExitStack) -> bool:
        """Waiting for one another's victims would be a deadlock."""
        lock = self.holding[name]
        if not lock.acquire(blocking=False):
            return False
        held.callback(lock.release)
        return True

    def _kill_and_restart(self, dice: random.Random, names: Sequence[str]) -> None:
        """At once, or as near to it as several signals are; they come back one by one."""
        for name in names:
            self.kill(name)
        for name in names:
            self._stop.wait(dice.uniform(0, self._plan.restart_seconds) / len(names))
            victim = self._stage.victims[name]
            if isinstance(victim, Agent) and dice.random() < 0.2:
                after = dice.uniform(0, 0.8)
                self._stage.log(f"start {name}, killed {after:.3f} s later")
                victim.start_and_kill(after)
                self._result.kills[f"{name} starting"] += 1
            self.restart(name)

    def kill_at_once(self, name: str, pause: float) -> None:
        """Within a millisecond of what the caller just heard from it; not if somebody else kills it now."""
        with contextlib.ExitStack() as held:
            if self._try_to_hold(name, held):
                self.kill(name)
                self._stop.wait(pause)
                self.restart(name)

    def kill(self, name: str) -> None:
        self._stage.is_down(name)
        if self._stage.victims[name].kill():
            self._result.kills[name] += 1
            self._stage.log(f"KILLED {name}")

    def restart(self, name: str) -> None:
        begun = time.monotonic()
        self._stage.victims[name].start()
        self._stage.is_up(name)
        self._stage.log(f"started {name} in {time.monotonic() - begun:.3f} s")


class Client:
    """Sends its share of messages to the other agent, one call after the other, and keeps the ledger."""

    def __init__(self, round: Round, side: str, lane: int, count: int) -> None:
        self._round = round
        self._side = side
        self._other = "B" if side == "A" else "A"
        self._lane = lane
        self._count = count
        self._random = random.Random(f"{round.plan.seed} {side} {lane}")
        self._api = round.stage.agents[side].new_api()
        self._far = round.stage.agents[self._other].new_api()
        self._pause_mean = 0.0
        self.ledger: list[Message] = []

    def run(self) -> None:
        """Until all are sent, or the round failed."""
        try:
            while len(self.ledger) < self._count and not self._round.ended.is_set():
                batch = self._make(self._size())
                repeat = self._random.random() >= 0.04  # else: a client that does not care
                views = self._send(batch, repeat=repeat)
                if views is not None:
                    self._after(batch, views)
                self._pause(len(batch))
        except Exception as error:
            self._round.violation(f"client {self._side}{self._lane}: {type(error).__name__}: {error}")
        finally:
            self._api.close()
            self._far.close()

    def _size(self) -> int:
        left = self._count - len(self.ledger)
        return 1 if self._random.random() < 0.7 else min(left, self._random.randint(2, 24))

    def _make(self, count: int) -> list[Message]:
        kind = self._random.choice(("text", "json", "binary"))
        batch = []
        for _ in range(count):
            index = len(self.ledger)
            message = Message(
                id=secrets.token_hex(16),
                lane=(self._side, self._lane),
                index=index,
                type=kind,
                body=_body(self._random, kind, f"{self._side}{self._lane}-{index}"),
            )
            self.ledger.append(message)
            batch.append(message)
        return batch

    def _send(self, batch: list[Message], *, repeat: bool) -> list[str] | None:
        """The results of the messages, as promised; None if the call died and is not repeated."""
        wait = self._random.choice((0, 0, 0.05, 0.3, 1))
        deadline = time.monotonic() + GIVE_UP_SECONDS
        for message in batch:
            message.begun = time.time()
        while not self._round.ended.is_set():
            try:
                answer = self._call(batch, wait)
            except Gone:
                self._note(batch, ["gone"] * len(batch))
                if not repeat:
                    return None
                if time.monotonic() > deadline:
                    raise
                self._round.ended.wait(RETRY_SECONDS)
                continue
            if not answer.ok:
                self._note(batch, [answer.code] * len(batch))
                self._round.violation(f"{self._side}{self._lane}: {answer.status} {answer.data}")
                return None
            views = answer.data["items"] if len(batch) > 1 else [answer.data]
            results = [view["result"] for view in views]
            self._note(batch, results)
            if [view["id"] for view in views] != [message.id for message in batch]:
                self._round.violation(f"{self._side}{self._lane}: the answer is about other messages")
            return results
        return None

    def _call(self, batch: list[Message], wait: float) -> Answer:
        peer = self._round.stage.agents[self._other].name
        if len(batch) == 1:
            return self._api.post(
                "/v1/messages",
                peer=peer,
                type=batch[0].type,
                id=batch[0].id,
                wait=wait,
                **_body_field(batch[0]),
            )
        messages = [{"id": message.id, **_body_field(message)} for message in batch]
        return self._api.post("/v1/messages/batch", peer=peer, type=batch[0].type, messages=messages, wait=wait)

    def _note(self, batch: list[Message], results: list[str]) -> None:
        now = time.time()
        for message, result in zip(batch, results, strict=True):
            message.answers.append(result)
            if result in PROMISES and not message.promised:
                message.promised = now
            elif result not in PROMISES and result != "gone":
                self._round.violation(f"{message.lane} {message.index} {message.id}: {result}")
        first, last = batch[0], batch[-1]
        self._round.stage.log(
            f"{self._side}{self._lane} {first.index}..{last.index} {first.id[:8]} {dict(Counter(results))}"
        )

    def _after(self, batch: list[Message], results: list[str]) -> None:
        """Sometimes: who promised dies at once, or the same call comes again, or we look at once."""
        dice = self._random.random()
        delivered = [message for message, result in zip(batch, results, strict=True) if result == "delivered"]
        if dice < 0.04:
            self._send(batch, repeat=True)
            self._round.count("repeated on purpose", len(batch))
        elif dice < 0.06:
            self._round.killer.kill_at_once(self._side, self._random.uniform(0, 0.3))
        elif delivered and dice < 0.08:
            self._round.killer.kill_at_once(self._other, self._random.uniform(0, 0.3))
            self._look(delivered[-1], "recipient killed at once")
        elif delivered and dice < 0.09:
            self._look_while_sender_is_dead(delivered[-1])
        elif delivered and dice < 0.2:
            self._look(delivered[-1], "at once")

    def _look_while_sender_is_dead(self, message: Message) -> None:
        killer = self._round.killer
        with killer.holding[self._side]:
            killer.kill(self._side)
            self._look(message, "sender dead")
            killer.restart(self._side)

    def _look(self, message: Message, when: str) -> None:
        """A delivered message is in the inbox as soon as that can be read."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not self._round.ended.is_set():
            try:
                answer = self._far.get(f"/v1/inbox/{message.id}")
            except Gone:
                if time.monotonic() > deadline:
                    raise
                self._round.ended.wait(RETRY_SECONDS)
                continue
            if not answer.ok:
                self._round.violation(
                    f"{message.lane} {message.index} {message.id} was delivered, and is not in the inbox: "
                    f"{answer.status} {answer.code}"
                )
            elif _body_of(answer.data) != message.body:
                self._round.violation(f"{message.lane} {message.index} {message.id} was altered")
            self._round.count(f"looked up, {when}", 1)
            return

    def _pause(self, sent: int) -> None:
        """In bursts, and on the whole so that the sending takes as long as was asked for."""
        plan = self._round.plan
        due = plan.seconds * len(self.ledger) / self._count
        ahead = due - (time.monotonic() - self._round.begun)
        if ahead > 0 and self._random.random() < 0.5:
            self._round.ended.wait(min(ahead, self._random.expovariate(2.0)))


class Round:
    """One run: set up, send and kill, drain, check."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self.plan = plan
        self.result = Result(plan.seed)
        self.ended = threading.Event()
        self._say = say
        self._lock = threading.Lock()
        directory = Path(tempfile.mkdtemp(prefix="covey-kill-"))
        self.stage = Stage(directory)
        self.killer = Killer(self.stage, plan, self.result, self.violation)
        self.begun = 0.0
        self._threads: list[threading.Thread] = []

    def violation(self, text: str) -> None:
        with self._lock:
            self.result.violations.append(text)
        self.stage.log(f"VIOLATION {text}")
        if len(self.result.violations) > 50:
            self.ended.set()

    def count(self, what: str, number: int) -> None:
        with self._lock:
            self.result.counts[what] += number

    def run(self) -> Result:
        result = self.result
        try:
            self.stage.set_up()
            self.begun = time.monotonic()
            clients = self._send()
            result.seconds = time.monotonic() - self.begun
            self._drain()
            self._check([message for client in clients for message in client.ledger])
        except (AssertionError, Gone, RuntimeError) as error:
            self.violation(f"{type(error).__name__}: {error}")
        finally:
            with _uninterrupted():
                self.ended.set()
                self.killer.stop()
                for thread in self._threads:
                    thread.join()  # before the end: one of them may be about to start a daemon
                self.stage.end()
                self._clean_up()
        return result

    def _send(self) -> list[Client]:
        shares = _shares(self.plan.messages, 2 * LANES)
        places = [(side, lane) for side in "AB" for lane in range(LANES)]
        clients = [Client(self, *place, share) for place, share in zip(places, shares, strict=True)]
        threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
        self.killer.start()
        for thread in threads:
            thread.start()
            self._threads.append(thread)
        last = 0.0
        while any(thread.is_alive() for thread in threads):
            for thread in threads:
                thread.join(0.1)
            if time.monotonic() - last > 5:
                last = time.monotonic()
                self._progress(clients)
        self.killer.stop()
        self._progress(clients)
        return clients

    def _progress(self, clients: list[Client]) -> None:
        sent = sum(len(client.ledger) for client in clients)
        kills = sum(self.result.kills.values())
        seconds = time.monotonic() - self.begun
        self._say(f"  {seconds:5.1f} s  {sent:5} of {self.plan.messages} sent  {kills:3} kills")

    def _drain(self) -> None:
        """Everything runs; both outboxes become empty."""
        begun = time.monotonic()
        for name in self.stage.victims:
            self.killer.restart(name)
        for name, agent in self.stage.agents.items():
            eventually(
                lambda agent=agent: agent.api.get("/v1/status").data["outbox_queued"] == 0,
                f"{name}'s outbox is empty",
                DRAIN_SECONDS,
                0.05,
            )
        self.result.drain_seconds = time.monotonic() - begun
        self.stage.is_down("rendezvous")  # closes the last stretch
        self.result.together = self.stage.seconds_together()

    def _check(self, ledger: list[Message]) -> None:
        for recipient, agent in self.stage.agents.items():
            sender = "B" if recipient == "A" else "A"
            identity = self.stage.agents[sender].api.get("/v1/status").data["identity"]
            inbox = list(_read_inbox(agent.api))
            self._check_inbox(recipient, identity, inbox, [m for m in ledger if m.lane[0] == sender])
        for agent in self.stage.agents.values():
            agent.stop()
            self._check_database(agent)
            self._check_log(agent)
        for message in ledger:
            promised = next((answer for answer in message.answers if answer in PROMISES), "")
            self.result.answers[promised or "no promise"] += 1
        self.count("calls that died", sum("gone" in message.answers for message in ledger))

    def _check_inbox(self, recipient: str, identity: str, inbox: list[dict[str, Any]], sent: list[Message]) -> None:
        by_id = {message.id: message for message in sent}
        seen: Counter[str] = Counter(view["id"] for view in inbox)
        where = f"inbox of {recipient}"
        for view in inbox:
            message = by_id.get(view["id"])
            if message is None:
                self.violation(f"{where}: {view['id']} was never sent")
            elif view["sender"] != identity:
                self.violation(f"{where}: {view['id']} comes from {view['sender']}")
            elif (view["type"], _body_of(view)) != (message.type, message.body):
                self.violation(f"{where}: {view['id']} was altered")
            elif message.promised:
                self.result.delays.append(view["received"] - message.begun)
                self.result.stalls.append(self.stage.longest_together(message.begun, view["received"]))
        for message_id, count in seen.items():
            if count > 1:
                self.violation(f"{where}: {message_id} is there {count} times")
        for message in sent:
            if message.is_promised and not seen[message.id]:
                answers = dict(Counter(message.answers))
                self.violation(f"{where}: {message.lane} {message.index} {message.id} is lost: {answers}")
            elif not message.is_promised and seen[message.id]:
                self.count("arrived without a promise", 1)
        for lane in range(LANES):
            order = [
                by_id[view["id"]].index for view in inbox if view["id"] in by_id and by_id[view["id"]].lane[1] == lane
            ]
            for before, after in itertools.pairwise(order):
                if after < before:
                    self.violation(f"{where}: lane {lane}: {after} comes after {before}")

    def _check_database(self, agent: Agent) -> None:
        with contextlib.closing(sqlite3.connect(f"file:{agent.home.database}?mode=ro", uri=True)) as database:
            (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
            queued = database.execute("SELECT count(*) FROM outbox WHERE result = 'queued'").fetchone()[0]
            gaps = database.execute("SELECT count(*) FROM inbox_gaps").fetchone()[0]
            old = database.execute("SELECT count(*) FROM outbox WHERE number IS NULL").fetchone()[0]
        for what, found, expected in (
            ("integrity", verdict, "ok"),
            ("still queued", queued, 0),
            ("gaps", gaps, 0),
            ("numbered anew, as if restored from a backup", old, 0),
        ):
            if found != expected:
                self.violation(f"database of {agent.name}: {what}: {found}")

    def _check_log(self, agent: Agent) -> None:
        """Being killed is no reason for a defect to show, nor for a line that is not of the log."""
        for line in agent.home.log_file.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"level": "error", "event": line}
            if entry["level"] in ("error", "critical"):
                self.violation(f"log of {agent.name}: {entry['event']}")

    def _clean_up(self) -> None:
        if self.result.violations or self.plan.keep:
            self.result.kept = self.stage.directory
        else:
            shutil.rmtree(self.stage.directory, ignore_errors=True)


def run(plan: Plan, say: Callable[[str], None] = print) -> Result:
    """One round. Leaves nothing running, also when it is interrupted."""
    return Round(plan, say).run()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not cut the cleaning up that the first began."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (part < total % parts) for part in range(parts)]


def _body(random: random.Random, kind: str, label: str) -> bytes:
    """Mostly small, sometimes large: one that needs many packets is cut in the middle more often."""
    dice = random.random()
    size = random.randint(0, 600) if dice < 0.9 else random.randint(600, 20_000) if dice < 0.98 else 200_000
    if kind == "binary":
        return label.encode() + b"\0" + random.randbytes(size)
    text = "".join(random.choices("abcdefghij äöü€", k=size))
    return (json.dumps({"label": label, "text": text}) if kind == "json" else f"{label} {text}").encode()


def _body_field(message: Message) -> dict[str, str]:
    if message.type == "binary":
        return {"body_b64": base64.b64encode(message.body).decode()}
    return {"body": message.body.decode()}


def _body_of(view: dict[str, Any]) -> bytes:
    return base64.b64decode(view["body"]) if view["type"] == "binary" else view["body"].encode()


def _read_inbox(api: Api) -> Iterator[dict[str, Any]]:
    after = 0
    while items := api.get(f"/v1/inbox?all=true&limit=500&after={after}").data["items"]:
        yield from items
        after = items[-1]["number"]


def _report(result: Result, say: Callable[[str], None]) -> None:
    delays = sorted(result.delays) or [0.0]
    most = delays[int(0.99 * (len(delays) - 1))]
    median = statistics.median(delays) * 1000
    stall = max([0.0, *result.stalls])
    rows = [
        ("seed", str(result.seed)),
        ("kills", _summed(result.kills)),
        ("messages", _summed(result.answers)),
        *((name, str(count)) for name, count in sorted(result.counts.items())),
        ("sending took", f"{result.seconds:.1f} s, draining {result.drain_seconds:.1f} s"),
        ("until in the inbox", f"median {median:.0f} ms, 99 % in {most:.2f} s, longest {delays[-1]:.2f} s"),
        (
            "everything ran",
            f"{result.together:.1f} s; a message waited at most {stall:.2f} s of it at a stretch",
        ),
        ("violations", str(len(result.violations))),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"  {name:<{width}}  {value}")
    for violation in result.violations[:20]:
        say(f"  VIOLATION: {violation}")
    if result.kept is not None:
        say(f"  kept: {result.kept} (events.log, */state/daemon.log, rendezvous/rendezvous.log)")


def _summed(counts: Counter[str]) -> str:
    parts = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{sum(counts.values())}: {parts}"


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=2000, help="how many in all (2000)")
    parser.add_argument("--seed", type=int, help="of the first round; each further one adds 1 (random)")
    parser.add_argument("--rounds", type=int, default=1, help="how many runs (1)")
    parser.add_argument("--seconds", type=float, default=45.0, help="how long one sends, roughly (45)")
    parser.add_argument("--keep", action="store_true", help="keep the directory also when all is well")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = _arguments(words)
    first = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    wrong = []
    try:
        for seed in range(first, first + options.rounds):
            print(f"kill test: {options.messages} messages, seed {seed}", flush=True)
            plan = Plan(options.messages, seed, options.seconds, options.keep)
            result = run(plan, lambda text: print(text, flush=True))
            _report(result, lambda text: print(text, flush=True))
            if result.violations:
                wrong.append(seed)
    except KeyboardInterrupt:
        print("interrupted; nothing was left running")
        return 130
    except OSError as error:
        print(f"the kill test could not run: {error}")
        return 2
    if wrong:
        print(f"FAILED with seeds {wrong}: again with --seed {wrong[0]}")
        return 1
    print(f"passed: {options.rounds} x {options.messages} messages, nothing lost, doubled or out of order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
