"""Recorded demand, read from the formats people have it in.

Every trace becomes the same thing: a rate per step. Steps of one second or finer are counts and are used as they are;
coarser ones are drawn second by second (seeded Poisson), five seeds, median and worst reported.

Formats, told apart by their first line:

- `t_s,rps` (ServeGen): a rate per step; `t_s`, `rps` may be called otherwise, see `TIMES`, `RATES`, `COUNTS`;
- `second,count`, `minute,count`, `t_s,requests`: a number of requests per step;
- one number per line: requests per second;
- `TIMESTAMP,ContextTokens,GeneratedTokens` (Azure LLM inference trace): one line per request;
- JSON, the answer of Prometheus' `/api/v1/query_range`: requests per second, all series summed.

What is read is foreign: its size, length and values are bounded, and `ParseError` is all that comes out.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import tomllib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from covey.base.errors import ParseError
from covey.fleet.simulate.poisson import draw

__all__ = ["SEEDS", "Setting", "Trace", "find_traces", "load_trace", "setting_for"]

SEEDS = 5
"""How often a trace coarser than a second is drawn (FLEET section 4)."""
MAX_BYTES = 256 << 20
MAX_SECONDS = 92 * 86400
"""A quarter of a year; more is a mistake in the unit of time."""
MAX_RATE = 1e7
"""Requests per second; more is a mistake."""
LEAST_RATE = 1e-6
"""Of one agent, per second: a request in eleven days; less is a mistake."""
MAX_TIME = 1e12
"""Seconds since whenever; more is no date."""

TIMES = {
    "t_s": 1.0, "t": 1.0, "s": 1.0, "time": 1.0, "time_s": 1.0, "second": 1.0, "seconds": 1.0, "timestamp": 1.0,
    "ts": 1.0, "minute": 60.0, "minutes": 60.0, "t_min": 60.0, "hour": 3600.0,
}  # fmt: skip
"""Names of the column of time, and what one of it is in seconds."""
RATES = ("rps", "rate", "qps", "requests_per_second", "req_per_s", "arrivals_per_second")
COUNTS = ("count", "counts", "requests", "n", "arrivals", "invocations", "num_requests", "value")


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Demand over time."""

    name: str
    step: float
    """Seconds of one step."""
    rates: tuple[float, ...]
    """Requests per second, by step."""
    recorded: bool = True
    """False: made by us, see `synthetic`."""

    @property
    def seconds(self) -> int:
        return max(1, round(len(self.rates) * self.step))

    @property
    def exact(self) -> bool:
        """Second by second as it was; otherwise each second is drawn."""
        return self.step <= 1.0

    @property
    def seeds(self) -> tuple[int, ...]:
        return (0,) if self.exact else tuple(range(SEEDS))

    def arrivals(self, seed: int) -> array[int]:
        """Requests in each second."""
        if self.exact:
            return array("q", (round(rate) for rate in self.rates))
        # The trace's name is part of the seed: two traces of equal rates are not the same day.
        return draw(f"{self.name}/{seed}", self.rates, self.step)

    def minutes(self) -> list[float]:
        """Mean rate of each 60 s, what the default `rate_per_agent` is found from."""
        if self.step >= 60:
            return list(self.rates)
        per = max(1, round(60 / self.step))
        return [_mean(self.rates[at : at + per]) for at in range(0, len(self.rates), per)]


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs under a trace: `TRACE.toml` beside it may set each of these."""

    rate_per_agent: float
    """Requests per second that one standard agent serves at full load."""
    cold_start: float = 60.0
    min: int = 1
    max: int = 200


def load_trace(path: Path) -> Trace:
    """Read one file. Raises `ParseError`, or `OSError` when it cannot be read at all."""
    if path.is_char_device() or path.is_fifo():
        raise ParseError(f"{path.name} is no file")
    if path.stat().st_size > MAX_BYTES:
        raise ParseError(f"{path.name} is larger than {MAX_BYTES >> 20} MiB", next_step="cut it, or sum it per second")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParseError(f"{path.name} is not text: {error}") from None
    try:
        return parse_trace_untrusted(path.stem, text)
    except ParseError as error:
        raise ParseError(f"{path.name}: {error}", next_step=error.next_step) from None


def parse_trace_untrusted(name: str, text: str) -> Trace:
    """The whole of a file as a trace; only `ParseError` comes out."""
    if text.lstrip()[:1] == "{":
        step, rates = _prometheus(text)
    else:
        step, rates = _csv(text)
    if not rates:
        raise ParseError("has no samples")
    if len(rates) * step > MAX_SECONDS:
        raise ParseError(f"covers {len(rates) * step / 86400:.0f} days; {MAX_SECONDS // 86400} are the limit")
    if not all(0 <= rate <= MAX_RATE for rate in rates):  # false for NaN as well
        raise ParseError(f"has a rate outside 0 to {MAX_RATE:.0f} per second")
    return Trace(name=name, step=step, rates=tuple(rates))


def setting_for(trace: Trace, path: Path | None = None, spec: Mapping[str, object] | None = None) -> Setting:
    """Defaults, what a spec says otherwise, and what `TRACE.toml` beside the trace says otherwise."""
    given: dict[str, object] = {}
    beside = path.with_suffix(".toml") if path is not None else None
    if beside is not None and beside.is_file():
        try:
            given = tomllib.loads(beside.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ParseError(f"{beside.name}: {error}") from None
    for key in ("cold_start", "rate_per_agent"):
        if isinstance(given.get(key), str):
            given[key] = _plain_number(str(given[key]), key)
    try:
        setting = msgspec.convert(
            {"rate_per_agent": default_rate(trace), **(spec or {}), **given}, Setting, strict=False
        )
    except msgspec.ValidationError as error:
        raise ParseError(f"{beside.name if beside else trace.name}: {error}") from None
    if not (LEAST_RATE <= setting.rate_per_agent <= MAX_RATE and 0 <= setting.cold_start <= 86400):
        raise ParseError(f"rate_per_agent must be at least {LEAST_RATE:g}, cold_start from 0 to 86400 s")
    if not 0 <= setting.min <= setting.max <= 100_000 or setting.max == 0:
        raise ParseError("min and max must hold 0 <= min <= max <= 100000, max above 0")
    return setting


def default_rate(trace: Trace) -> float:
    """99th percentile of the 60 s rate / (0.7 x 50), two digits (FLEET section 4): 50 agents at 70 % carry the peak."""
    ordered = sorted(trace.minutes())
    high = ordered[min(len(ordered) - 1, max(0, math.ceil(0.99 * len(ordered)) - 1))]
    if high <= 35 * LEAST_RATE:
        return 1.0
    return float(f"{high / (0.7 * 50):.1e}")


def find_traces(folder: Path) -> list[Path]:
    """The traces of a folder, by name; `.toml` beside them are settings, README and the like are none."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix in (".csv", ".json", ".txt") and not path.name.lower().startswith("readme")
    )


def _csv(text: str) -> tuple[float, list[float]]:
    rows = csv.reader(io.StringIO(text))
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        if header and all(_is_number(cell) for cell in header):
            return _bare(header, rows)
        if "contexttokens" in header or header == ["timestamp"]:
            return _events(header.index("timestamp") if "timestamp" in header else 0, rows)
        return _columns(header, rows)
    except csv.Error as error:
        raise ParseError(f"line {rows.line_num}: {error}") from None


def _bare(first: Sequence[str], rows: Iterable[Sequence[str]]) -> tuple[float, list[float]]:
    """No header: one column is requests per second; two are the time, s, and the count."""
    if len(first) == 1:
        return 1.0, [float(first[0]), *(_number(row[0], line) for line, row in enumerate(rows, 2) if row)]
    if len(first) == 2:
        pairs = [(float(first[0]), float(first[1]))]
        pairs += [(_number(row[0], line), _number(row[1], line)) for line, row in enumerate(rows, 2) if len(row) > 1]
        return _steps(pairs, 1.0, counts=True)
    raise ParseError("has no header that says which column is what", next_step="name them: t_s,rps")


def _columns(header: list[str], rows: Iterable[Sequence[str]]) -> tuple[float, list[float]]:
    time = next((index for index, cell in enumerate(header) if cell in TIMES), None)
    rate = next((index for index, cell in enumerate(header) if cell in RATES), None)
    count = next((index for index, cell in enumerate(header) if cell in COUNTS), None)
    column = rate if rate is not None else count
    if column is None:
        raise ParseError(
            f"line 1: no column with a rate or a count among {', '.join(header[:8]) or 'nothing'}",
            next_step=f"name one {' or '.join((RATES[0], COUNTS[0]))}",
        )
    unit = TIMES[header[time]] if time is not None else 1.0
    pairs = []
    for line, row in enumerate(rows, 2):
        if not row:
            continue
        if len(row) <= max(column, time or 0):
            raise ParseError(f"line {line}: {len(row)} columns, expected {len(header)}")
        at = _time(row[time], line) * unit if time is not None else float(line - 2)
        pairs.append((at, _number(row[column], line)))
    return _steps(pairs, unit, counts=rate is None)


def _steps(pairs: list[tuple[float, float]], unit: float, *, counts: bool) -> tuple[float, list[float]]:
    """Samples at a regular distance as rates. A hole in counts is no demand (many leave the zeros out), so the distance
    is their smallest; a hole in rates keeps the rate before it, and the distance is the usual one."""
    pairs.sort()
    if pairs and not -MAX_TIME <= pairs[0][0] <= pairs[-1][0] <= MAX_TIME:
        raise ParseError("has a time that is no date")
    if len(pairs) < 2:
        return unit, [value / (unit if counts else 1.0) for _, value in pairs]
    gaps = sorted(round(b[0] - a[0], 3) for a, b in itertools.pairwise(pairs) if b[0] - a[0] >= 1e-3)
    step = (gaps[0] if counts else gaps[(len(gaps) - 1) // 2]) if gaps else unit
    length = round((pairs[-1][0] - pairs[0][0]) / step) + 1
    if length * step > MAX_SECONDS:
        raise ParseError(f"covers {length * step / 86400:.0f} days; {MAX_SECONDS // 86400} are the limit")
    if length > MAX_SECONDS:
        raise ParseError(f"has steps of {step:g} s: {length} of them are too many", next_step="sum it per second")
    rates: list[float] = [math.nan] * length
    for at, value in pairs:
        index = round((at - pairs[0][0]) / step)
        before = 0.0 if math.isnan(rates[index]) else rates[index]
        rates[index] = before + value / step if counts else value
    last = 0.0
    for index, rate in enumerate(rates):
        if math.isnan(rate):
            rates[index] = 0.0 if counts else last
        last = rates[index]
    if step < 1.0:
        per = round(1 / step)
        rates = [_mean(rates[at : at + per]) for at in range(0, len(rates), per)]
        step = 1.0
    return step, rates


def _events(column: int, rows: Iterable[Sequence[str]]) -> tuple[float, list[float]]:
    """One line per request: counted per second from the first."""
    times = []
    for line, row in enumerate(rows, 2):
        if len(row) > column:
            times.append(_time(row[column], line))
    if not times:
        return 1.0, []
    if not -MAX_TIME <= min(times) <= max(times) <= MAX_TIME:
        raise ParseError("has a time that is no date")
    first = math.floor(min(times))
    length = math.floor(max(times)) - first + 1
    if length > MAX_SECONDS:
        raise ParseError(f"covers {length / 86400:.0f} days; {MAX_SECONDS // 86400} are the limit")
    rates = [0.0] * length
    for at in times:
        rates[math.floor(at) - first] += 1.0
    return 1.0, rates


class _Series(msgspec.Struct):
    values: list[tuple[float, str | float]]


class _Data(msgspec.Struct):
    result: list[_Series]


class _Answer(msgspec.Struct):
    data: _Data


def _prometheus(text: str) -> tuple[float, list[float]]:
    try:
        answer = msgspec.json.decode(text, type=_Answer)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ParseError(f"is no answer of Prometheus' query_range: {error}") from None
    total: dict[float, float] = {}
    for series in answer.data.result:
        for at, value in series.values:
            number = 0.0 if value == "NaN" else _number(str(value), 0)
            total[at] = total.get(at, 0.0) + number
    return _steps(sorted(total.items()), 15.0, counts=False)


def _time(cell: str, line: int) -> float:
    """Seconds: a number, or an ISO date (UTC unless it says otherwise; fractions beyond microseconds are cut)."""
    if _is_number(cell):
        return _number(cell, line)
    head, dot, tail = cell.strip().partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    try:
        at = datetime.fromisoformat(head + (f".{tail[: min(digits, 6)].ljust(6, '0')}{tail[digits:]}" if dot else ""))
    except ValueError:
        raise ParseError(f"line {line}: {cell[:40]!r} is no time") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _number(cell: str, line: int) -> float:
    if not _is_number(cell):
        raise ParseError(f"line {line}: {cell[:40]!r} is no number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def _plain_number(text: str, key: str) -> float:
    """`60s`, `25/s`: what a spec would say; bare numbers too."""
    try:
        return float(text.removesuffix("/s").removesuffix("s"))
    except ValueError:
        raise ParseError(f'{key}: {text[:40]!r} is no number, write 60 or "60s"') from None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
