from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import UsageError
from covey.fleet.errors import Permanent, ProviderError, Temporary
from covey.fleet.model import Reading
from covey.fleet.providers.registry import Surroundings
from covey.fleet.signals.prometheus import PrometheusSource
from covey.fleet.signals.registry import make_source
from covey.fleet.spec.types import Target, Workload
from tests.fleet.prometheus import known, prometheus

SAMPLES = """\
requests{{pool="east"}} 40 {0}
requests{{pool="west"}} 2 {0}
waiting 7 {0}
nonsense NaN {0}
"""


def source(home: Path, query: str, *, value: float | None = None, length: float | None = None, **settings: Any) -> Any:
    rate = None if value or length else 5.0
    target = Target(
        signal="prometheus", query=query, value=value, queue_length=length, rate_per_agent=rate, every=1.0,
        settings=settings,
    )  # fmt: skip
    return make_source(Workload(name="w", targets=(target,)), target, Surroundings(home=home))


@pytest.mark.xdist_group("processes")
def test_read_asks_a_real_prometheus(tmp_path: Path) -> None:
    async def story() -> None:
        known(tmp_path, SAMPLES.format(time.time() - 1))
        with prometheus(tmp_path) as server:
            await told(server.address)

    async def told(address: str) -> None:
        async def read(query: str, **settings: Any) -> dict[str, Reading]:
            found: dict[str, Reading] = await source(tmp_path, query, address=address, **settings).read((), 9.0)
            return found

        slow = {"at": 9.0, "interval": 15.0}
        assert await read("sum(requests)") == {"": Reading(arrivals=42.0, **slow)}
        assert await read("scalar(waiting)", value=0.7) == {"": Reading(value=7.0, **slow)}
        assert await read("waiting", length=50.0) == {"": Reading(backlog=7.0, **slow)}
        assert await read("requests", pool_label="pool", scrape_interval=0.2) == {
            "east": Reading(at=9.0, arrivals=40.0, interval=1.0),
            "west": Reading(at=9.0, arrivals=2.0, interval=1.0),
        }
        assert await read("sum(requests)", backlog_query="waiting", ongoing_query="waiting * 2") == {
            "": Reading(arrivals=42.0, backlog=7.0, ongoing=14.0, **slow)
        }
        for query, error, words in (
            ("requests", Permanent, "gives 2 series"),
            ("no_such_metric", Temporary, "no series now"),
            ("nonsense", Temporary, "no series now"),
            ("sum(", Permanent, "HTTP 400"),
            ("waiting[1m]", Permanent, "gives a matrix"),
        ):
            with pytest.raises(error, match=words):
                await read(query)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "not understood"),
        (b'{"status":"error","error":"no"}', "refuses"),
        (b'{"status":"success"}', "refuses"),
        (b'{"status":"success","data":{"resultType":"scalar","result":[1,"many"]}}', "not understood"),
        (b'{"status":"success","data":{"resultType":"scalar","result":[1]}}', "not understood"),
        (
            b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"' + b"9" * 99 + b'"]}]}}',
            "not und",
        ),
        (b'{"status":"success","data":{"resultType":"vector","result":' + b"[" * 9999 + b"}", "not understood"),
    ],
    ids=["nothing", "error", "no-data", "words", "short", "long-number", "deep"],
)
def test_foreign_answers_end_in_one_error(answer: bytes, words: str) -> None:
    target = Target(signal="prometheus", query="up", rate_per_agent=1.0)
    with pytest.raises(Permanent, match=words):
        PrometheusSource(target)._parse_untrusted(answer, "up")


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf", "-1", "1e308"], ids=str)
def test_what_is_no_count_is_no_reading(number: str) -> None:
    answer = b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1,"%s"]}]}}' % number.encode()
    target = Target(signal="prometheus", query="up", rate_per_agent=1.0)
    assert PrometheusSource(target)._parse_untrusted(answer, "up") == {}


def test_a_prometheus_that_is_not_there_is_a_temporary_error(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="does not answer"):
        asyncio.run(source(tmp_path, "up", address="http://127.0.0.1:1").read((), 9.0))


def test_a_target_without_a_query_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a query"):
        source(tmp_path, "")
