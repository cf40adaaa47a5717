"""`prices`: what things cost, how old that is, and whether the bill agrees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from covey.base.errors import CoveyError, NotFoundError, StateError, StorageError, UsageError
from covey.fleet.commands import words
from covey.fleet.commands.context import Context, Result, Verbs

if TYPE_CHECKING:
    from covey.fleet.loop.store import Store
    from covey.fleet.model import Decision
    from covey.fleet.prices.catalog import Catalog, Summary
    from covey.fleet.prices.types import Price
    from covey.fleet.spec.types import Spec

__all__ = ["add"]

_WHAT: Final = ("show", "refresh", "import", "history", "billed")


def add(verbs: Verbs) -> None:
    parser = verbs.add(
        "prices",
        _prices,
        summary="show, read and check prices",
        more="show (default): what the catalog knows and how old it is; with --shape, --region or --cloud its prices.\n"
        "refresh: read the public price API of --cloud (or the spec's prices.refresh), in the regions of the spec's\n"
        "pools or --region.\n"
        "import FILE...: tables of list prices, spot history or egress (docs/fleet/prices.md).\n"
        "history: spot prices of --cloud --region --shape over time.\n"
        "billed FILE: a CSV day,cloud,usd beside what the journal says; more than 5 % apart is an error.",
    )
    parser.add_argument("what", nargs="?", default="show", choices=_WHAT, metavar="|".join(_WHAT))
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--cloud", default="", metavar="CLOUD")
    parser.add_argument("--region", action="append", default=[], metavar="REGION")
    parser.add_argument("--shape", default="", metavar="SHAPE", help="an instance type")
    parser.add_argument("--spot", action="store_true", help="spot prices alone; with refresh those of EC2 too")
    parser.add_argument("--needed", action="store_true", help="refresh: only what is half as old as it may get")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="so many lines (default 20)")


def _prices(context: Context, options: Any) -> Result:
    takes_files = options.what in ("import", "billed")
    if bool(options.files) != takes_files:
        raise UsageError(
            f"prices {options.what} takes {'a file' if takes_files else 'no file'}",
            next_step="covey fleet prices --help",
        )
    do = {"show": _show, "refresh": _refresh, "import": _import, "history": _history, "billed": _billed}[options.what]
    return do(context, options)


@contextlib.contextmanager
def _catalog(context: Context) -> Iterator[Catalog]:
    from covey.fleet.prices.catalog import Catalog
    from covey.fleet.prices.quotes import catalog_path
    from covey.fleet.spec.types import PriceSources

    spec = _spec(context)
    catalog = Catalog(catalog_path(context.home.make().path, spec.prices if spec is not None else PriceSources()))
    try:
        yield catalog
    finally:
        catalog.close()


def _spec(context: Context) -> Spec | None:
    """The one that holds, if there is one."""
    try:
        with context.store() as store:
            return store.spec().spec
    except NotFoundError:
        return None


def _show(context: Context, options: Any) -> Result:
    limit = max(1, min(options.limit, 10_000))
    with _catalog(context) as catalog:
        summaries = catalog.summaries()
        if not (options.cloud or options.region or options.shape):
            return Result({"clouds": summaries}, _summary(summaries, context.now))
        found: list[Price] = []
        for region in options.region or [""]:
            found += catalog.prices(
                cloud=options.cloud,
                region=region,
                shape=options.shape,
                spot=True if options.spot else None,
                limit=limit,
            )
    found = sorted(found, key=lambda price: price.usd)[:limit]
    rows = [_row(price, context.now) for price in found]
    text = words.table(("CLOUD", "REGION", "SHAPE", "", "$/H", "READ", "FROM"), rows) if rows else "nothing is known"
    return Result({"items": found}, text)


def _row(price: Price, now: float) -> tuple[str, ...]:
    from covey.fleet.prices.types import stale

    old = " (stale)" if stale(price.at, now, spot=price.spot) else ""
    kind = f"spot {price.zone}".strip() if price.spot else "on demand"
    usd = f"${price.usd:.4f}"
    return price.cloud, price.region, price.shape, kind, usd, words.ago(price.at, now) + old, price.source


def _summary(summaries: list[Summary], now: float) -> str:
    from covey.fleet.prices.types import stale

    if not summaries:
        return "no prices are known: covey fleet prices refresh --cloud azure --region westeurope, or import a table"

    def age(at: float | None, *, spot: bool) -> str:
        return "" if at is None else words.ago(at, now) + (" (stale)" if stale(at, now, spot=spot) else "")

    rows = [
        (
            each.cloud,
            str(each.regions),
            str(each.on_demand),
            age(each.on_demand_at, spot=False),
            str(each.spot),
            age(each.spot_at, spot=True),
            str(each.egress),
        )
        for each in summaries
    ]
    return words.table(("CLOUD", "REGIONS", "LIST PRICES", "OLDEST", "SPOT PRICES", "OLDEST", "EGRESS"), rows)


def _refresh(context: Context, options: Any) -> Result:
    from covey.fleet.prices.refresh import CLOUDS, refresh

    spec = _spec(context)
    named = [options.cloud] if options.cloud else list(spec.prices.refresh) if spec is not None else []
    if not named:
        raise UsageError("say whose prices to read", next_step="covey fleet prices refresh --cloud azure")
    regions = {cloud: options.region or _regions(spec, cloud) for cloud in CLOUDS}
    # Whoever has a pool there has credentials that may ask.
    spot = options.spot or (spec is not None and any(pool.provider == "aws" for pool in spec.pools.values()))
    with _catalog(context) as catalog:
        outcomes = refresh(catalog, named, regions, context.now, ec2=_ec2 if spot else None, needed=options.needed)
    lines = [
        f"{each.cloud} {each.region} {each.what}: {each.problem or f'{each.prices} prices, {each.egress} of egress'}"
        for each in outcomes
    ]
    failed = [each for each in outcomes if each.problem]
    error = None
    if failed:
        first = f"{failed[0].cloud} {failed[0].region}".strip()
        error = StateError(
            f"{len(failed)} of {len(outcomes)} could not be read, first {first}: {failed[0].problem}", code="price-api"
        )
    return Result({"items": outcomes}, "\n".join(lines), error)


def _ec2(region: str) -> Any:
    try:
        import boto3
    except ImportError:
        raise UsageError("EC2's spot prices need boto3", next_step="pip install 'covey[aws]'") from None
    return boto3.client("ec2", region_name=region)


def _regions(spec: Spec | None, cloud: str) -> list[str]:
    """Of the spec's pools in that cloud."""
    if spec is None:
        return []
    named = (
        str(pool.labels.get("region") or pool.settings.get("region") or "")
        for pool in spec.pools.values()
        if pool.cloud == cloud
    )
    return sorted({region for region in named if region})


def _import(context: Context, options: Any) -> Result:
    from covey.fleet.prices.tables import read_table

    # A table is as old as its file: nobody knows better.
    tables = []
    for name in options.files:
        try:
            at = min(Path(name).stat().st_mtime, context.now)
        except OSError as error:
            raise StorageError(f"{name}: {error.strerror}", code="price-table") from None
        tables.append((name, read_table(Path(name), at, cloud=options.cloud)))
    with _catalog(context) as catalog:
        for _, table in tables:
            catalog.put(table)
    data = [{"file": name, "prices": len(table.prices), "egress": len(table.egress)} for name, table in tables]
    return Result(
        {"items": data}, "\n".join(f"{d['file']}: {d['prices']} prices, {d['egress']} of egress" for d in data)
    )


def _history(context: Context, options: Any) -> Result:
    if not (options.cloud and options.shape and len(options.region) == 1):
        raise UsageError("a history is of one --cloud, one --region and one --shape")
    with _catalog(context) as catalog:
        found = catalog.spot_history(options.cloud, options.region[0], options.shape)
    if not found:
        raise NotFoundError("no spot price of it was ever read", code="no-price", next_step="covey fleet prices import")
    usd = [price.usd for price in found]
    rows = [
        (words.clock(price.at, context.now), price.zone, f"${price.usd:.4f}")
        for price in found[-max(1, options.limit) :]
    ]
    text = words.table(("WHEN", "ZONE", "$/H"), rows)
    return Result({"items": found}, f"{text}\n{len(usd)} in all, from ${min(usd):.4f} to ${max(usd):.4f}")


def _decisions(store: Store, days: list[str]) -> Iterator[Decision]:
    """Of all workloads, oldest first, an hour at a time: a month of them is more than fits."""
    if not days:
        return
    at, end = (datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() for day in (days[0], days[-1]))
    while at <= end + 86_400.0:
        yield from reversed(store.decisions(since=at, until=at + 3599.999, limit=1_000_000))
        at += 3600.0


def _billed(context: Context, options: Any) -> Result:
    from covey.fleet.prices.billed import compare, modelled, read_billed

    if len(options.files) != 1:
        raise UsageError("one bill at a time")
    path = Path(options.files[0])
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file")
    try:
        billed = read_billed(path.read_text(), path.name)
    except (OSError, UnicodeDecodeError) as problem:
        raise StorageError(f"{path} cannot be read: {problem}", code="billed-table") from None
    with context.store() as store:
        clouds = {name: pool.cloud for name, pool in store.spec().spec.pools.items()}
        differences = compare(billed, modelled(_decisions(store, sorted(day for day, _ in billed)), clouds))
    rows = [
        (
            each.day,
            each.cloud,
            words.money(each.billed),
            words.money(each.modelled),
            f"{each.covered:.0%}",
            "not judged" if each.apart is None else f"{each.apart:+.1%}{'  ALERT' if each.alert else ''}",
        )
        for each in differences
    ]
    alerts = [each for each in differences if each.alert]
    error: CoveyError | None = None
    if alerts:
        error = StateError(
            f"{len(alerts)} days are more than 5 % apart",
            code="errors-found",
            next_step="look for what is not in the spec: disks, discounts (prices.overrides), agents started by hand",
        )
    text = words.table(("DAY", "CLOUD", "BILLED", "MODELLED", "KNOWN", "APART"), rows)
    return Result({"items": [msgspec.to_builtins(each) | {"alert": each.alert} for each in differences]}, text, error)
