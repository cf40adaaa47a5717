"""What a fleet remembers, and the one place where commands and controller meet.

Commands write specs and orders and read the rest; the controller that leads writes state, decisions and intents, all
of one turn in one transaction, and nothing any more once another leads: every write of a controller names its epoch,
and a deposed one gets `Deposed`.

An intent is a step that will be called or was. Its life::

    written -> calling -> accepted -> settled (seen | superseded | failed)
                  |           the call may or may not have worked:
                  +--------> unknown  -> calling again, or settled
                  +--------> refused  -> settled by the next turn, which blocks what refused

After a crash `calling` is what `unknown` is: the next controller looks first, then calls again or lets it be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import msgspec

from covey.base.errors import NotFoundError, StateError, StorageError
from covey.fleet.loop.database import Database
from covey.fleet.model import Decision, InFlight, LaunchFailure, Orders, Pin, Step
from covey.fleet.spec.types import Spec

__all__ = ["Deposed", "Intent", "Order", "OrderKind", "SpecVersion", "Store", "orders_at"]

T = TypeVar("T")
OrderKind = Literal["pause", "freeze", "pin", "drain-pool", "drain-agent", "approve", "adopt"]

_VERSION: Final = 1
"""Of the tables."""


class Deposed(StateError):
    """Another controller leads; nothing was written, and nothing may be called any more."""

    default_code = "deposed"


class SpecVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A spec as it was applied."""

    version: int
    at: float
    spec: Spec
    text: str
    """As the user wrote it."""
    name: str
    """Of the file, for messages and to tell TOML from YAML."""
    note: str = ""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody ordered."""

    id: int
    kind: OrderKind
    subject: str
    """A workload, a pool, `POOL/ID`, or "*"."""
    value: str
    """JSON, by kind: a pin's number, an approval's steps."""
    at: float
    until: float | None
    ended_at: float | None = None


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A step and what became of it."""

    id: int
    plan: str
    turn: int
    epoch: int
    """Of the controller that wrote it, or that called it last."""
    step: Step
    status: Literal["written", "calling", "accepted", "unknown", "refused", "settled"]
    at: float
    tries: int = 0
    again_at: float | None = None
    outcome: str = ""
    detail: str = ""
    refused: LaunchFailure | None = None
    changed_at: float = 0.0

    def in_flight(self, *, queued: bool) -> InFlight:
        """As a turn sees it."""
        return InFlight(
            intent=self.id,
            plan=self.plan,
            step=self.step,
            at=self.at,
            accepted=self.status == "accepted",
            queued=queued,
            tries=self.tries,
            again_at=self.again_at,
            refused=self.refused,
            detail=self.detail,
            changed_at=self.changed_at,
        )


_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS fleet_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS fleet_specs (
        version {identity}, at DOUBLE PRECISION NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
        text TEXT NOT NULL, spec TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS fleet_orders (
        id {identity}, kind TEXT NOT NULL, subject TEXT NOT NULL, value TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
        until DOUBLE PRECISION, ended_at DOUBLE PRECISION)""",
    "CREATE TABLE IF NOT EXISTS fleet_state (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS fleet_intents (
        id {identity}, plan TEXT NOT NULL, turn BIGINT NOT NULL, epoch BIGINT NOT NULL, workload TEXT NOT NULL,
        pool TEXT NOT NULL, step TEXT NOT NULL, status TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,
        tries BIGINT NOT NULL DEFAULT 0, again_at DOUBLE PRECISION, outcome TEXT NOT NULL DEFAULT '',
        detail TEXT NOT NULL DEFAULT '', refused TEXT, changed_at DOUBLE PRECISION NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS fleet_intents_open ON fleet_intents (id) WHERE status <> 'settled'",
    """CREATE TABLE IF NOT EXISTS fleet_decisions (
        id {identity}, at DOUBLE PRECISION NOT NULL, turn BIGINT NOT NULL, workload TEXT NOT NULL,
        record TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS fleet_decisions_workload ON fleet_decisions (workload, at)",
    """CREATE TABLE IF NOT EXISTS fleet_leader (
        name TEXT PRIMARY KEY, epoch BIGINT NOT NULL, holder TEXT NOT NULL, since DOUBLE PRECISION NOT NULL,
        address TEXT NOT NULL)""",
)

_INTENT: Final = (
    "SELECT id, plan, turn, epoch, step, status, at, tries, again_at, outcome, detail, refused, changed_at "
    "FROM fleet_intents"
)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class Store:
    """A fleet's tables in `database`. Every method is one transaction. Raises `StorageError`; a controller's own
    methods, those with an `epoch`, also `Deposed`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.remote = database.remote
        with database.transaction():
            for statement in _TABLES:
                database.execute(statement.format(identity=database.identity))
            database.execute(
                "INSERT INTO fleet_meta VALUES ('version', ?) ON CONFLICT (name) DO NOTHING", (str(_VERSION),)
            )
            ((found,),) = database.execute("SELECT value FROM fleet_meta WHERE name = 'version'")
        if found != str(_VERSION):
            raise StorageError(
                f"the fleet's store has tables of version {found}, this Covey knows version {_VERSION}",
                code="fleet-store-version",
                next_step="use the Covey that wrote it, or a newer one",
            )

    def close(self) -> None:
        self._database.close()

    # --- specs ---

    def add_spec(self, spec: Spec, *, text: str, name: str, at: float, note: str = "") -> int:
        """The new version's number; it holds from the next turn on."""
        with self._database.transaction():
            rows = self._database.execute(
                "INSERT INTO fleet_specs (at, name, note, text, spec) VALUES (?, ?, ?, ?, ?) RETURNING version",
                (at, name, note, text, _json(spec)),
            )
        return int(rows[0][0])

    def spec(self, version: int | None = None) -> SpecVersion:
        """That version, or the newest. Raises `NotFoundError`."""
        where, values = ("", ()) if version is None else ("WHERE version = ? ", (version,))
        rows = self._database.execute(
            f"SELECT version, at, name, note, text, spec FROM fleet_specs {where}ORDER BY version DESC LIMIT 1",  # noqa: S608 - constants of this line
            values,
        )
        if not rows:
            raise NotFoundError(
                "no spec was applied yet" if version is None else f"there is no spec version {version}",
                code="no-spec",
                next_step="covey fleet apply" if version is None else "covey fleet history",
            )
        return _spec_version(rows[0])

    def newest_spec(self) -> int:
        """Its number; 0 for none."""
        return int(self._database.execute("SELECT coalesce(max(version), 0) FROM fleet_specs")[0][0])

    def specs(self, limit: int = 50) -> list[SpecVersion]:
        """Newest first."""
        rows = self._database.execute(
            "SELECT version, at, name, note, text, spec FROM fleet_specs ORDER BY version DESC LIMIT ?", (limit,)
        )
        return [_spec_version(row) for row in rows]

    # --- orders ---

    def add_order(
        self, kind: OrderKind, subject: str, *, at: float, value: object = None, until: float | None = None
    ) -> int:
        """A new order; one of the same kind about the same subject ends."""
        with self._database.transaction():
            self._end(kind, subject, at)
            rows = self._database.execute(
                "INSERT INTO fleet_orders (kind, subject, value, at, until) VALUES (?, ?, ?, ?, ?) RETURNING id",
                (kind, subject, _json(value), at, until),
            )
        return int(rows[0][0])

    def end_order(self, kind: OrderKind, subject: str, *, at: float) -> int:
        """How many ended."""
        with self._database.transaction():
            return self._end(kind, subject, at)

    def _end(self, kind: str, subject: str, at: float) -> int:
        return len(
            self._database.execute(
                "UPDATE fleet_orders SET ended_at = ? WHERE kind = ? AND subject = ? AND ended_at IS NULL RETURNING id",
                (at, kind, subject),
            )
        )

    def orders(self, now: float) -> list[Order]:
        """Those that hold at `now`, oldest first."""
        rows = self._database.execute(
            "SELECT id, kind, subject, value, at, until, ended_at FROM fleet_orders "
            "WHERE ended_at IS NULL AND (until IS NULL OR until > ?) ORDER BY id",
            (now,),
        )
        return [
            Order(id=i, kind=kind, subject=subject, value=value, at=at, until=until, ended_at=ended)
            for i, kind, subject, value, at, until, ended in rows
        ]

    def order_history(self, *, since: float = 0.0, limit: int = 200) -> list[Order]:
        """Newest first, also those that ended."""
        rows = self._database.execute(
            "SELECT id, kind, subject, value, at, until, ended_at FROM fleet_orders "
            "WHERE at >= ? ORDER BY id DESC LIMIT ?",
            (since, limit),
        )
        return [
            Order(id=i, kind=kind, subject=subject, value=value, at=at, until=until, ended_at=ended)
            for i, kind, subject, value, at, until, ended in rows
        ]

    # --- the loop ---

    def state(self) -> dict[str, str]:
        """By name, JSON: what `loop.memory` wrote."""
        return {name: value for name, value in self._database.execute("SELECT name, value FROM fleet_state")}  # noqa: C416 - typed

    def journal(
        self,
        epoch: int,
        *,
        turn: int,
        plan: str,
        at: float,
        state: Mapping[str, str | None],
        decisions: Iterable[Decision],
        steps: Sequence[Step],
        settled: Iterable[tuple[int, str, str]],
    ) -> list[Intent]:
        """Everything one turn decided, or nothing of it. `state`: what changed, None for what is forgotten. The
        intents of `steps`, in their order."""
        database = self._database
        with database.transaction():
            self._check(epoch)
            for name, value in state.items():
                if value is None:
                    database.execute("DELETE FROM fleet_state WHERE name = ?", (name,))
                else:
                    database.execute(
                        "INSERT INTO fleet_state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                        (name, value),
                    )
            for decision in decisions:
                database.execute(
                    "INSERT INTO fleet_decisions (at, turn, workload, record) VALUES (?, ?, ?, ?)",
                    (decision.at, decision.turn, decision.workload, _json(decision)),
                )
            for intent, outcome, detail in settled:
                database.execute(
                    "UPDATE fleet_intents SET status = 'settled', outcome = ?, detail = ?, changed_at = ? WHERE id = ?",
                    (outcome, detail, at, intent),
                )
            written = []
            for step in steps:
                ((number,),) = database.execute(
                    "INSERT INTO fleet_intents (plan, turn, epoch, workload, pool, step, status, at, changed_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, 'written', ?, ?) RETURNING id",
                    (plan, turn, epoch, step.workload, step.pool, _json(step), at, at),
                )
                written.append(
                    Intent(
                        id=number, plan=plan, turn=turn, epoch=epoch, step=step, status="written", at=at, changed_at=at
                    )
                )
        return written

    def intents(self) -> list[Intent]:
        """Those that are not settled, oldest first."""
        return [_intent(row) for row in self._database.execute(f"{_INTENT} WHERE status <> 'settled' ORDER BY id")]

    def intent_history(self, *, since: float = 0.0, limit: int = 200) -> list[Intent]:
        """Newest first, whatever became of them."""
        rows = self._database.execute(f"{_INTENT} WHERE at >= ? ORDER BY id DESC LIMIT ?", (since, limit))
        return [_intent(row) for row in rows]

    def calling(self, epoch: int, intent: int, at: float) -> bool:
        """To be said just before the call. False: it is settled, or called already, and is not to be called."""
        with self._database.transaction():
            self._check(epoch)
            return bool(
                self._database.execute(
                    "UPDATE fleet_intents SET status = 'calling', epoch = ?, tries = tries + 1, changed_at = ? "
                    "WHERE id = ? AND status IN ('written', 'unknown', 'calling') RETURNING id",
                    (epoch, at, intent),
                )
            )

    def called(
        self,
        epoch: int,
        intent: int,
        at: float,
        status: Literal["accepted", "unknown", "refused", "settled"],
        *,
        outcome: str = "",
        detail: str = "",
        again_at: float | None = None,
        refused: LaunchFailure | None = None,
        step: Step | None = None,
    ) -> None:
        """What the call said. `step`: what of it was really taken on, if not all."""
        with self._database.transaction():
            self._check(epoch)
            self._database.execute(
                "UPDATE fleet_intents SET status = ?, outcome = ?, detail = ?, again_at = ?, refused = ?, "
                "step = coalesce(?, step), changed_at = ? WHERE id = ? AND status = 'calling'",
                (
                    status,
                    outcome,
                    detail,
                    again_at,
                    None if refused is None else _json(refused),
                    None if step is None else _json(step),
                    at,
                    intent,
                ),
            )

    def decisions(
        self, workload: str | None = None, *, since: float = 0.0, until: float | None = None, limit: int = 100
    ) -> list[Decision]:
        """Newest first."""
        where = ["at >= ?"]
        values: list[Any] = [since]
        if workload is not None:
            where.append("workload = ?")
            values.append(workload)
        if until is not None:
            where.append("at <= ?")
            values.append(until)
        rows = self._database.execute(
            f"SELECT record FROM fleet_decisions WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",  # noqa: S608 - constants above
            (*values, limit),
        )
        found = []
        for (record,) in rows:
            with contextlib.suppress(StorageError):  # of another version; the others still explain
                found.append(_decode(record, Decision))
        return found

    def prune(self, epoch: int, *, before: float) -> None:
        """Forget decisions and settled intents older than that."""
        with self._database.transaction():
            self._check(epoch)
            self._database.execute("DELETE FROM fleet_decisions WHERE at < ?", (before,))
            self._database.execute("DELETE FROM fleet_intents WHERE status = 'settled' AND changed_at < ?", (before,))

    # --- who leads ---

    def lead(self, holder: str, at: float, address: str = "") -> int:
        """A new epoch, above every one before: whoever led is deposed. Only for who holds the leader's lock."""
        with self._database.transaction():
            ((epoch,),) = self._database.execute(
                "INSERT INTO fleet_leader VALUES ('leader', 1, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "epoch = fleet_leader.epoch + 1, holder = excluded.holder, since = excluded.since, "
                "address = excluded.address RETURNING epoch",
                (holder, at, address),
            )
        return int(epoch)

    def leader(self) -> tuple[int, str, float, str] | None:
        """Epoch, holder, since, address of whoever led last."""
        rows = self._database.execute("SELECT epoch, holder, since, address FROM fleet_leader")
        return None if not rows else (int(rows[0][0]), rows[0][1], rows[0][2], rows[0][3])

    def _check(self, epoch: int) -> None:
        # An update and not a look: it holds the row until the transaction ends, so that nobody takes over in between.
        if not self._database.execute(
            "UPDATE fleet_leader SET holder = holder WHERE epoch = ? RETURNING epoch", (epoch,)
        ):
            found = self.leader()
            raise Deposed(
                f"this controller led with epoch {epoch}, and now {found[1] if found else 'nobody'} leads"
                f" with {found[0] if found else 0}"
            )


def orders_at(orders: Iterable[Order]) -> Orders:
    """What a turn is told of orders that hold."""
    by_kind: dict[str, dict[str, Order]] = {}
    for order in orders:
        by_kind.setdefault(order.kind, {})[order.subject] = order
    return Orders(
        paused=frozenset(by_kind.get("pause", ())),
        frozen=frozenset(by_kind.get("freeze", ())),
        pins={
            workload: Pin(agents=_decode(order.value, int), until=order.until)
            for workload, order in by_kind.get("pin", {}).items()
        },
        draining_pools=frozenset(by_kind.get("drain-pool", ())),
        draining_agents=frozenset(by_kind.get("drain-agent", ())),
        approved={
            workload: _decode(order.value, tuple[Step, ...]) for workload, order in by_kind.get("approve", {}).items()
        },
        adopted=frozenset(by_kind.get("adopt", ())),
    )


def _decode(text: str, kind: type[T]) -> T:
    """What an earlier Covey wrote may be unreadable for this one."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        what = getattr(kind, "__name__", "value").lower()
        raise StorageError(
            f"the fleet's store has a {what} that this Covey cannot read: {error}",
            code="fleet-store-unreadable",
            next_step="apply the spec again: covey fleet apply",
        ) from error


def _spec_version(row: tuple[Any, ...]) -> SpecVersion:
    version, at, name, note, text, spec = row
    return SpecVersion(version=version, at=at, name=name, note=note, text=text, spec=_decode(spec, Spec))


def _intent(row: tuple[Any, ...]) -> Intent:
    number, plan, turn, epoch, step, status, at, tries, again_at, outcome, detail, refused, changed_at = row
    return Intent(
        id=number,
        plan=plan,
        turn=turn,
        epoch=epoch,
        step=_decode(step, Step),
        status=status,
        at=at,
        tries=tries,
        again_at=again_at,
        outcome=outcome,
        detail=detail,
        refused=None if refused is None else _decode(refused, LaunchFailure),
        changed_at=changed_at,
    )
