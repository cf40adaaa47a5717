"""What an API server's refusals mean, asked of a small real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covey.base.errors import UsageError
from covey.fleet.errors import Denied, Permanent, ProviderError, Quota, Temporary
from covey.fleet.providers.kubernetes import api as apis
from covey.fleet.providers.kubernetes import make
from covey.fleet.providers.kubernetes.api import Api, Conflict, Gone, Refused, connect
from covey.fleet.providers.kubernetes.objects import Pod
from covey.fleet.providers.registry import Surroundings
from covey.fleet.spec.types import Pool
from tests.fleet.providers.kubernetes.fake_api import Answer, Fake, kubeconfig_for


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.close()


@pytest.fixture
def kubeconfig(fake: Fake, tmp_path: Path) -> Path:
    return kubeconfig_for(fake, tmp_path)


def ask(kubeconfig: Path, call: Callable[[Api], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        api = connect(kubeconfig=str(kubeconfig), context="", namespace="", pool="eks")
        try:
            return await call(api)
        finally:
            await api.close()

    return asyncio.run(run())


def status(code: int, message: str = "no", cause: str = "", **headers: str) -> Answer:
    details = {"causes": [{"reason": cause}]} if cause else {}
    return code, headers, json.dumps({"kind": "Status", "message": message, "details": details}).encode()


@pytest.mark.parametrize(
    ("answer", "kind", "after"),
    [
        (status(401), Denied, None),
        (status(403, "pods is forbidden"), Denied, None),
        (status(403, 'pods "x" is forbidden: exceeded quota: small'), Quota, None),
        (status(403, "terminating", "NamespaceTerminating"), Permanent, None),
        (status(404), Gone, None),
        (status(409), Conflict, 0.2),
        (status(422, "spec.replicas: Invalid value"), Permanent, None),
        (status(429, "Cannot evict", "DisruptionBudget"), Refused, 5.0),
        (status(429, **{"Retry-After": "7"}), Temporary, 7.0),
        (status(500), Temporary, 2.0),
        (status(503, **{"Retry-After": "-1"}), Temporary, 2.0),
        ((502, {"Content-Type": "text/html"}, b"<html>bad gateway"), Temporary, 2.0),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), Permanent, None),
        ((200, {}, b"not JSON"), Permanent, None),
        ((200, {}, b'{"items": 5}'), Permanent, None),
        ((200, {}, b'{"items": [{"metadata": {"name": 1}}]}'), Permanent, None),
    ],
    ids=["401", "403", "quota", "terminating", "404", "409", "422", "budget", "429", "500", "503", "html", "302",
         "text", "shape", "inner"],
)  # fmt: skip
def test_api_refusal_is_one_of_ours(
    fake: Fake, kubeconfig: Path, answer: Answer, kind: type[ProviderError], after: float | None
) -> None:
    fake.answers = [answer]
    with pytest.raises(ProviderError) as caught:
        ask(kubeconfig, lambda api: api.list(api.path("v1", "pods"), Pod))
    assert type(caught.value) is kind
    assert after is None or getattr(caught.value, "after", None) == after
    assert "eks" in str(caught.value)


def test_api_lists_page_by_page(fake: Fake, kubeconfig: Path) -> None:
    def page(name: str, more: str) -> Answer:
        return 200, {}, json.dumps({"metadata": {"continue": more}, "items": [{"metadata": {"name": name}}]}).encode()

    fake.answers = [page("a", "more"), page("b", "")]
    found = ask(kubeconfig, lambda api: api.list(api.path("v1", "pods"), Pod, labelSelector="x=y"))
    assert [each.metadata.name for each in found] == ["a", "b"]
    assert fake.asked == ["GET /api/v1/namespaces/agents/pods?labelSelector=x%3Dy&limit=500",
            "GET /api/v1/namespaces/agents/pods?labelSelector=x%3Dy&limit=500&continue=more"]  # fmt: skip


def test_api_takes_no_endless_answer(fake: Fake, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apis, "MOST_BYTES", 1000)
    fake.answers = [(200, {}, b" " * 2000)]
    with pytest.raises(Permanent, match="larger than"):
        ask(kubeconfig, lambda api: api.get("/version", dict[str, Any]))


def test_api_asks_which_budgets_there_are(fake: Fake, kubeconfig: Path) -> None:
    groups = [{"groupVersion": "policy/v1"}, {"groupVersion": "policy/v1beta1"}]
    fake.answers = [(200, {}, json.dumps({"versions": groups}).encode())]
    assert ask(kubeconfig, lambda api: api.budgets_group()) == "policy/v1"
    fake.answers = [(200, {}, json.dumps({"versions": groups[1:]}).encode())]
    assert ask(kubeconfig, lambda api: api.budgets_group()) == "policy/v1beta1"


def test_api_nobody_there_is_temporary(fake: Fake, kubeconfig: Path) -> None:
    config = json.loads(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    kubeconfig.write_text(json.dumps(config))
    with pytest.raises(Temporary, match="not reached"):
        ask(kubeconfig, lambda api: api.get("/version", dict[str, Any]))


def test_api_a_command_for_tokens_that_is_missing_is_denied(fake: Fake, kubeconfig: Path) -> None:
    config = json.loads(kubeconfig.read_text())
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-plug-in"}
    config["users"][0]["user"] = {"exec": plugin}
    kubeconfig.write_text(json.dumps(config))
    with pytest.raises(Denied, match="no-such-plug-in"):
        ask(kubeconfig, lambda api: api.get("/version", dict[str, Any]))


@pytest.mark.parametrize("text", ["", "[]", "{", "clusters: 5", "current-context: x\nclusters: []\ncontexts: []"])
def test_make_a_kubeconfig_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    pool = Pool(name="eks", provider="kubernetes", settings={"kubeconfig": str(tmp_path / "config")})
    with pytest.raises(UsageError, match="eks") as caught:
        make(pool, Surroundings(home=tmp_path))
    assert caught.value.next_step


def test_make_unknown_context_is_told(kubeconfig: Path, tmp_path: Path) -> None:
    pool = Pool(name="eks", provider="kubernetes", settings={"kubeconfig": str(kubeconfig), "context": "prod"})
    with pytest.raises(UsageError, match="context prod"):
        make(pool, Surroundings(home=tmp_path))
