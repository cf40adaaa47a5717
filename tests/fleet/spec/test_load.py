"""A file becomes a spec, or every fault in it is told at once with its line."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.base.errors import NotFoundError
from covey.fleet.spec.load import load, parse, version_of
from covey.fleet.spec.source import MAX_NODES, Fault, SpecError
from covey.fleet.spec.types import Spec

FLEET = """\
[budget]
hourly_usd = 40

[pools.eks-use1]
provider = "kubernetes"        # context from kubeconfig; also: local, aws, azure, gcp
context = "prod-eks"
labels = { cloud = "aws", region = "us-east-1", jurisdiction = "us" }

[pools.aks-weu]
provider = "kubernetes"
labels = { cloud = "azure", region = "westeurope", jurisdiction = "eu" }

[workloads.fraud]
image = "registry.example.com/fraud:1.4"
resources = { cpu = 1, memory = "2Gi" }
replicas = { min = 2, max = 200 }
cold_start = "60s"
grace = "30s"
priority = 10
targets = [
  { signal = "cpu", value = 0.7 },
  { signal = "queue", rate_per_agent = "50/s", utilisation = 0.7, drain_within = "30s" },
  { signal = "prometheus", query = "sum(rate(requests_total[1m]))", rate_per_agent = "25/s" },
]
[workloads.fraud.place]
pools = ["eks-use1", "aks-weu"]
survive = { clouds = 1, keep = "min" }
spot = { max_share = 0.5, base_on_demand = 2 }
[workloads.fraud.traffic]
weights = { azure = 20, aws = 80 }
"""

SMALL = """\
pools:
  here:
    provider: local
workloads:
  work:
    command: [python, serve.py]
    targets:
      - signal: agents
        rate_per_agent: 300/min
"""


def faults(text: str, form: str = "toml") -> list[tuple[int, str, str]]:
    with pytest.raises(SpecError) as caught:
        parse(text, form)  # type: ignore[arg-type]
    return [(fault.line, fault.field, fault.value) for fault in caught.value.faults]


def test_the_specifications_own_example_is_read() -> None:
    spec = parse(FLEET)
    fraud = spec.workloads["fraud"]
    assert spec.pools["eks-use1"].settings == {"context": "prod-eks"}
    assert (fraud.resources.memory, fraud.cold_start, fraud.targets[1].rate_per_agent) == (2 << 30, 60.0, 50.0)
    assert [target.signal for target in fraud.targets] == ["cpu", "agents", "prometheus"]  # a queue agents report
    assert fraud.targets[2].settings == {"address": "http://127.0.0.1:9090"}
    assert fraud.mode == "observe"
    assert fraud.traffic.weights == {"azure": 20, "aws": 80}


def test_yaml_and_json_say_the_same_as_toml() -> None:
    as_json = parse(FLEET)
    import tomllib

    assert parse(json.dumps(tomllib.loads(FLEET)), "yaml") == as_json
    assert parse(SMALL, "yaml").workloads["work"].targets[0].rate_per_agent == 5.0


def test_a_spec_survives_the_store() -> None:
    spec = parse(FLEET)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=Spec) == spec


CASES = {
    "below a bound": ("min = 2,", "min = -2,", (16, "workloads.fraud.replicas.min", "-2")),
    "unit": ('"2Gi"', '"2 cows"', (15, "workloads.fraud.resources.memory", '"2 cows"')),
    "wrong kind": ("priority = 10", 'priority = "high"', (19, "workloads.fraud.priority", '"high"')),
    "true is no number": ("priority = 10", "priority = true", (19, "workloads.fraud.priority", "true")),
    "infinite": ("hourly_usd = 40", "hourly_usd = inf", (2, "budget.hourly_usd", "inf")),
    "unknown field": ("weights =", "wieghts =", (30, "workloads.fraud.traffic.wieghts is not a field", "")),
    "field of another provider": ("context =", "subscription =", (6, "pools.eks-use1.subscription is not a field", "")),
    "in a list": ("value = 0.7", "value = 0.0", (21, "workloads.fraud.targets.0.value", "0.0")),
    "no way to scale": (", value = 0.7 }", " }", (21, "workloads.fraud.targets.0", "")),
    "two ways to scale": ("value = 0.7", "value = 0.7, queue_length = 3", (21, "workloads.fraud.targets.0", "")),
    "cpu has no rate": ("value = 0.7", "rate_per_agent = 3", (21, "workloads.fraud.targets.0.rate_per_agent", "3.0")),
    "nothing to ask": ('query = "sum(rate(requests_total[1m]))", ', "", (23, "workloads.fraud.targets.2.query", "")),
    "missing": ("hourly_usd = 40", "", (1, "budget.hourly_usd is missing", "")),
    "pool of another name": ('["eks-use1",', '["eks-use2",', (26, "workloads.fraud.place.pools", '"eks-use2"')),
    "max below min": ("max = 200", "max = 1", (16, "workloads.fraud.replicas.min", "2")),
    "two clouds needed": ('cloud = "azure"', 'cloud = "aws"', (27, "workloads.fraud.place.survive", "")),
    "cloud of no pool": ("azure = 20", "gcp = 20", (30, "workloads.fraud.traffic.weights", '"gcp"')),
    "bad name": ("[pools.aks-weu]", "[pools.AKS]", (9, 'the name "AKS" in pools', "")),
    "no image": ('image = "registry.example.com/fraud:1.4"', "", (13, "workloads.fraud.image", "")),
    "toml's grammar": ("priority = 10", "priority = ", (19, "", "")),
}


@pytest.mark.parametrize("name", CASES)
def test_fault_names_line_field_and_value(name: str) -> None:
    old, new, expected = CASES[name]
    assert FLEET.count(old) >= 1
    assert expected in faults(FLEET.replace(old, new, 1))


def test_all_faults_come_at_once_in_order() -> None:
    text = FLEET.replace("hourly_usd = 40", "hourly_usd = -1").replace("min = 2,", "mni = 2,").replace("0.5", "50.0")
    assert [line for line, _, _ in faults(text)] == [2, 16, 28]


def test_message_says_what_was_expected_and_the_nearest_name() -> None:
    with pytest.raises(SpecError) as caught:
        parse(FLEET.replace("cold_start", "coldstart"), name="fleet.toml")
    assert 'did you mean "cold_start"?' in str(caught.value)
    assert str(caught.value).startswith("fleet.toml has an error\n  line 17: workloads.fraud.coldstart is not a field")
    assert caught.value.code == "spec"


TOML_LINES = {
    "array of tables": ("[[workloads.work.targets]]\nsignal = 'cpu'\n[[workloads.work.targets]]\nvalue = -1\n",
                        (9, "workloads.work.targets.1.value", "-1")),
    "dotted keys": ("replicas.min = 1\nreplicas.max = -1\n", (7, "workloads.work.replicas.max", "-1")),
    "long strings": ("env.A = \"\"\"\n]\n\\\"x\ny\"\"\"\"\"\npriority = 0.5\n",
                     (10, "workloads.work.priority", "0.5")),
    "long list": ("place.pools = [\n  # a comment ]\n  'here', 'there',\n]\npriority = ''\n",
                  (10, "workloads.work.priority", '""')),
    "quoted key": ("\"replicas\".'min' = -1\n", (6, "workloads.work.replicas.min", "-1")),
    "escaped key": ('"pri\\u006frity" = "x"\n', (6, "workloads.work.priority", '"x"')),
}  # fmt: skip


@pytest.mark.parametrize("name", TOML_LINES)
def test_toml_line(name: str) -> None:
    text, expected = TOML_LINES[name]
    head = "[pools.here]\nprovider = 'local'\n[pools.there]\nprovider = 'local'\n[workloads.work]\n"
    found = faults(head + text)
    assert expected in found


YAML_CASES = {
    "grammar": ("a: [", 1),
    "tab": ("pools:\n\t- a", 2),
    "tag": (SMALL.replace("local", "!!python/name:os.system x"), 3),
    "twice": (SMALL.replace("    provider: local", "    provider: local\n    provider: local"), 4),
    "value": (SMALL.replace("300/min", "-1/s"), 9),
    "half a pair": (SMALL.replace("serve.py", '"\\ud800"'), 6),
    "null": (SMALL.replace("local", "null"), 3),
    "two documents": (SMALL + "---\na: 1\n", 10),
    "not a table": ("- a\n", 1),
}


@pytest.mark.parametrize("name", YAML_CASES)
def test_yaml_line(name: str) -> None:
    text, line = YAML_CASES[name]
    assert [found[0] for found in faults(text, "yaml")] == [line]


def test_aliases_are_followed_and_counted() -> None:
    text = SMALL.replace("  here:\n    provider: local\n", "  here: &p {provider: local}\n  there: *p\n")
    assert list(parse(text, "yaml").pools) == ["here", "there"]
    with pytest.raises(SpecError):
        parse("&a [*a]", "yaml")
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
    )
    with pytest.raises(SpecError, match=f"at most {MAX_NODES} values"):
        parse(bomb, "yaml")


HOSTILE = {
    "deep toml": "a = " + "[" * 1500 + "]" * 1500,
    "deep inline": "a = " + "{a=" * 50 + "1" + "}" * 50,
    "deep dotted": "a" + ".a" * 100 + " = 1",
    "digits": "a = 1" + "0" * 5000,
    "much": "#" * (1 << 20) + "#",
}


@pytest.mark.parametrize("form", ["toml", "yaml"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused(name: str, form: str) -> None:
    assert faults(HOSTILE[name], form)


def test_deep_yaml_is_refused() -> None:
    assert faults("[" * 600, "yaml")
    assert faults("\n".join(" " * i + "a:" for i in range(300)), "yaml")


@given(st.text(alphabet="ab[]{}=.\"'\\\n #,-:&*!|>01", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_with_one_error(text: str) -> None:
    for form in ("toml", "yaml"):
        with pytest.raises(SpecError):
            parse(text, form)  # type: ignore[arg-type]


def test_byte_order_mark_is_no_fault() -> None:
    assert parse("\ufeff" + FLEET) == parse(("\ufeff" + FLEET).encode()) == parse(FLEET)


def test_bytes_that_are_no_text_name_their_line() -> None:
    with pytest.raises(SpecError) as caught:
        parse(b"a = 1\nb = '\xff'\n")
    assert caught.value.faults == (Fault(2, "", "", "UTF-8"),)


def test_paths_are_found_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(SMALL + "    secrets: {KEY: 'file:key'}\nprices: {overrides: prices.toml}\n")
    spec = load(path)
    assert spec.prices.overrides == str(tmp_path / "prices.toml")
    assert spec.workloads["work"].secrets == {"KEY": f"file:{tmp_path / 'key'}"}
    with pytest.raises(NotFoundError) as caught:
        load(tmp_path / "none.toml")
    assert caught.value.code == "no-spec"


def test_version_is_of_what_agents_are_made_of() -> None:
    work = parse(SMALL, "yaml").workloads["work"]
    assert work.version == version_of(work) != ""
    assert version_of(msgspec.structs.replace(work, priority=3, cold_start=1.0)) == work.version
    assert version_of(msgspec.structs.replace(work, command=("other",))) != work.version
