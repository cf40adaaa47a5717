"""What must hold at the end: each promise kept once, in order, nothing else; sound databases; logs without errors."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from scripts.kill_test.plan import LANES, PROMISES, Message, Result, body_of
from scripts.kill_test.stage import Stage
from scripts.processes import Agent, Api

__all__ = ["Checks"]


class Checks:
    """Of one round whose outboxes are empty. `violation` hears of everything that is wrong."""

    def __init__(
        self, stage: Stage, result: Result, violation: Callable[[str], None], count: Callable[[str, int], None]
    ) -> None:
        self._stage = stage
        self._result = result
        self._violation = violation
        self._count = count

    def check(self, ledger: list[Message]) -> None:
        """Ends the agents."""
        for recipient, agent in self._stage.agents.items():
            sender = "B" if recipient == "A" else "A"
            identity = self._stage.agents[sender].api.get("/v1/status").data["identity"]
            inbox = list(_read_inbox(agent.api))
            self._check_inbox(recipient, identity, inbox, [m for m in ledger if m.lane[0] == sender])
        for agent in self._stage.agents.values():
            agent.stop()
            self._check_database(agent)
            self._check_log(agent)
        for message in ledger:
            promised = next((answer for answer in message.answers if answer in PROMISES), "")
            self._result.answers[promised or "no promise"] += 1
        self._count("calls that died", sum("gone" in message.answers for message in ledger))

    def _check_inbox(self, recipient: str, identity: str, inbox: list[dict[str, Any]], sent: list[Message]) -> None:
        by_id = {message.id: message for message in sent}
        seen: Counter[str] = Counter(view["id"] for view in inbox)
        where = f"inbox of {recipient}"
        for view in inbox:
            message = by_id.get(view["id"])
            if message is None:
                self._violation(f"{where}: {view['id']} was never sent")
            elif view["sender"] != identity:
                self._violation(f"{where}: {view['id']} comes from {view['sender']}")
            elif (view["type"], body_of(view)) != (message.type, message.body):
                self._violation(f"{where}: {view['id']} was altered")
            elif message.promised:
                self._result.delays.append(view["received"] - message.begun)
                self._result.stalls.append(self._stage.longest_together(message.begun, view["received"]))
        for message_id, count in seen.items():
            if count > 1:
                self._violation(f"{where}: {message_id} is there {count} times")
        for message in sent:
            if message.is_promised and not seen[message.id]:
                answers = dict(Counter(message.answers))
                self._violation(f"{where}: {message.lane} {message.index} {message.id} is lost: {answers}")
            elif not message.is_promised and seen[message.id]:
                self._count("arrived without a promise", 1)
        for lane in range(LANES):
            order = [
                by_id[view["id"]].index for view in inbox if view["id"] in by_id and by_id[view["id"]].lane[1] == lane
            ]
            for before, after in itertools.pairwise(order):
                if after < before:
                    self._violation(f"{where}: lane {lane}: {after} comes after {before}")

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
                self._violation(f"database of {agent.name}: {what}: {found}")

    def _check_log(self, agent: Agent) -> None:
        """Being killed is no reason for a defect to show, nor for a line that is not of the log."""
        for line in agent.home.log_file.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"level": "error", "event": line}
            if entry["level"] in ("error", "critical"):
                self._violation(f"log of {agent.name}: {entry['event']}")


def _read_inbox(api: Api) -> Iterator[dict[str, Any]]:
    after = 0
    while items := api.get(f"/v1/inbox?all=true&limit=500&after={after}").data["items"]:
        yield from items
        after = items[-1]["number"]
