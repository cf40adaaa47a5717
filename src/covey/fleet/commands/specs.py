"""`init`, `check`, `diff`, `apply`, `rollback`, `schema`: the spec, from the first line to the one that holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from covey.base.errors import NotFoundError, StateError, StorageError, UsageError
from covey.fleet.commands.context import SPEC_FILE, Context, Parser, Result, Verbs, known

if TYPE_CHECKING:
    from covey.fleet.loop.store import Store
    from covey.fleet.spec.diff import Change
    from covey.fleet.spec.types import Spec, Workload

__all__ = ["add", "apply_file", "spec_option"]


def spec_option(parser: Parser) -> None:
    parser.add_argument("--spec", default=SPEC_FILE, metavar="FILE", help=f"TOML, YAML or JSON (default {SPEC_FILE})")


def add(verbs: Verbs) -> None:
    init = verbs.add("init", _init, summary="write a commented spec that runs on this machine as it is")
    init.add_argument("file", nargs="?", default=SPEC_FILE, metavar="FILE")
    init.add_argument("--force", action="store_true", help="write over what is there")

    check = verbs.add(
        "check",
        _check,
        summary="check the spec, and the rights in the pools that are named",
        more="Every fault is told with its line, its value and what was expected. With POOL every right that the\n"
        "controller needs there is proven without changing anything.",
    )
    check.add_argument("pools", nargs="*", metavar="POOL")
    check.add_argument("--all", action="store_true", help="every pool")
    spec_option(check)

    spec_option(verbs.add("diff", _diff, summary="show what applying the spec would change"))

    apply = verbs.add(
        "apply",
        _apply,
        summary="make the file the fleet's spec",
        more="A workload without a mode only observes: its decisions are journaled, nothing is done.",
    )
    spec_option(apply)
    apply.add_argument("--note", default="", metavar="TEXT", help="why, for the history")
    apply.add_argument(
        "--adopt", action="append", default=[], metavar="WORKLOAD", help="scale it although another manager does"
    )

    rollback = verbs.add("rollback", _rollback, summary="make an earlier version the fleet's spec again")
    rollback.add_argument("version", nargs="?", type=int, metavar="VERSION", help="default: the one before this")

    verbs.add("schema", _schema, summary="print the JSON Schema of a spec, for editors")


def _init(context: Context, options: Any) -> Result:
    from covey.fleet.spec.load import parse
    from covey.fleet.spec.starter import starter

    path = Path(options.file)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        raise UsageError("the starter is TOML, which has comments", next_step="covey fleet init fleet.toml")
    text = starter()
    parse(text, name=path.name)
    try:
        with path.open("w" if options.force else "x") as file:
            file.write(text)
    except FileExistsError:
        raise StateError(f"{path} is there already", next_step=f"covey fleet init --force {path}") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None
    name = "" if options.file == SPEC_FILE else f" --spec {path}"
    return Result({"file": str(path)}, f"{path} is written. next: covey fleet apply{name} && covey fleet run")


def _check(context: Context, options: Any) -> Result:
    from covey.fleet.spec.load import load

    spec = load(Path(options.spec))
    if spec.prices.overrides:
        from covey.fleet.prices.overrides import load_overrides

        load_overrides(Path(spec.prices.overrides))
    pools = list(spec.pools) if options.all else [known(name, spec.pools, "pool") for name in options.pools]
    lines = [f"{options.spec} is a good spec: {_count(spec.pools, 'pool')}, {_count(spec.workloads, 'workload')}"]
    if not pools:
        return Result({"pools": list(spec.pools), "workloads": list(spec.workloads), "rights": {}}, lines[0])
    from covey.fleet.commands.rights import prove

    rights = prove(context, spec, pools)
    missing = []
    for pool, found in rights.items():
        for right in found:
            lines.append(f"{pool}: {'ok      ' if right.granted else 'MISSING '} {right.name}  {right.detail}".rstrip())
            if not right.granted:
                missing.append((pool, right))
                lines.append(f"    next: {right.next_step}" if right.next_step else "")
    error = None
    if missing:
        pool, right = missing[0]
        error = StateError(
            f"{_count(missing, 'right')} missing, first {right.name} in {pool}",
            code="errors-found",
            next_step=right.next_step,
        )
    data = {"pools": list(spec.pools), "workloads": list(spec.workloads), "rights": rights}
    return Result(data, "\n".join(line for line in lines if line), error)


def _diff(context: Context, options: Any) -> Result:
    from covey.fleet.spec.load import load

    changes, version = _changes(context, load(Path(options.spec)))
    told = "\n".join(str(change) for change in changes) or "nothing differs"
    return Result({"against": version, "changes": changes}, told)


def _changes(context: Context, spec: Spec) -> tuple[list[Change], int]:
    """Against the newest version, and its number; 0 without one."""
    from covey.fleet.spec.diff import diff

    try:
        with context.store() as store:
            newest = store.spec()
    except NotFoundError:
        return diff(None, spec), 0
    return diff(newest.spec, spec), newest.version


def _apply(context: Context, options: Any) -> Result:
    return apply_file(context, Path(options.spec), adopt=options.adopt, note=options.note)


def apply_file(context: Context, path: Path, *, adopt: Sequence[str] = (), note: str = "") -> Result:
    """What `apply` does, for whoever needs a spec to be there."""
    from covey.fleet.loop.stores import remember_store, store_url
    from covey.fleet.spec.load import load_with_text

    spec, text = load_with_text(path)
    if spec.controller.store != store_url(context.home, {}):
        # Before anything is written: this spec is the first of the store that it names.
        remember_store(context.home.make(), spec.controller.store)
    adopted = [known(name, spec.workloads, "workload") for name in adopt]
    changes, version = _changes(context, spec)
    with context.store(make=True) as store:
        for name in adopted:
            store.add_order("adopt", name, at=context.now)
        if not changes and version:
            return Result({"version": version, "changes": []}, f"nothing differs from version {version}")
        version = store.add_spec(spec, text=text, name=path.name, at=context.now, note=note)
    return _applied(context, version, spec, changes)


def _applied(context: Context, version: int, spec: Spec, changes: list[Change]) -> Result:
    lines = [*(str(change) for change in changes), f"version {version} is the fleet's spec"]
    lines += [_mode(workload) for workload in spec.workloads.values() if workload.mode != "act"]
    lines.append(context.woken())
    return Result({"version": version, "changes": changes}, "\n".join(line for line in lines if line))


def _mode(workload: Workload) -> str:
    if workload.mode == "observe":
        return f'{workload.name} is only observed: set mode = "act" when you like what covey fleet plan says'
    return f"{workload.name} waits for your word: covey fleet approve {workload.name}"


def _rollback(context: Context, options: Any) -> Result:
    from covey.fleet.spec.diff import diff

    with context.store() as store:
        newest = store.spec()
        back = store.spec(options.version if options.version is not None else _before(store, newest.version))
        changes = diff(newest.spec, back.spec)
        if not changes:
            return Result({"version": newest.version, "changes": []}, f"version {back.version} is what holds now")
        version = store.add_spec(
            back.spec, text=back.text, name=back.name, at=context.now, note=f"rollback to version {back.version}"
        )
    return _applied(context, version, back.spec, changes)


def _before(store: Store, version: int) -> int:
    earlier = [each.version for each in store.specs() if each.version < version]
    if not earlier:
        raise NotFoundError("there is no version before this one", code="no-spec", next_step="covey fleet history")
    return earlier[0]


def _schema(context: Context, options: Any) -> Result:
    from covey.fleet.spec.schema import schema

    found = schema()
    return Result(found, json.dumps(msgspec.to_builtins(found), indent=2))


def _count(things: Any, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
