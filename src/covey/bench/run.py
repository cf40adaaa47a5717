"""Runs: settings times subjects times measures, interleaved, and what came of them.

Baseline and contender alternate within each measure, so that a ratio compares figures of the same seconds. A measure
that fails is written down and costs nobody else: its pair is ended and the next measure gets a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from covey.bench.measures import Measure, Scale, unit, within
from covey.bench.pair import Failed, Pair, Site, Subject
from covey.bench.rows import Row, row

__all__ = ["Figures", "Report", "Setting", "measure"]

Report = Callable[[str, str, Mapping[str, float] | str], None]
"""Hears of each measure: subject, its name, and figures or, in words, why there are none."""


@dataclass(frozen=True)
class Setting:
    """Who is measured where and for what.

    `names` says what a metric is called here, and leaves out what it does not name; without it, every metric has its
    own name with the setting's, unless that is empty, before the unit: `bulk_mtu9000_gbit_s`.
    """

    name: str
    site: Callable[[], AbstractContextManager[Site]]
    subjects: Sequence[Subject]
    measures: Sequence[Measure]
    names: Mapping[str, str] | None = None

    def metric(self, metric: str) -> str | None:
        if self.names is not None:
            return self.names.get(metric)
        return within(metric, self.name) if self.name else metric


@dataclass
class Figures:
    """All values so far by metric and subject, in the order in which they first came; and what failed."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    sites: dict[str, str] = field(default_factory=dict)
    """What was between the ends, by setting."""

    def add(self, metric: str, subject: str, value: float) -> None:
        self.values.setdefault(metric, {}).setdefault(subject, []).append(value)

    def fail(self, setting: str, subject: str, measure: str, why: str) -> None:
        self.failures.append({"setting": setting, "peer": subject, "measure": measure, "error": why})

    def rows(self) -> list[Row]:
        """One for each metric and subject, by metric."""
        return [
            row(metric, unit(metric), values, subjects, peer=subject)
            for metric, subjects in self.values.items()
            for subject, values in subjects.items()
        ]


def measure(
    settings: Sequence[Setting],
    figures: Figures,
    scale: Scale,
    report: Report,
    *,
    profile: bool = False,
) -> None:
    """One run of everything. `profile` reports, after each measure, where the time of both ends went."""
    for setting in settings:
        try:
            with setting.site() as site:
                figures.sites[setting.name] = site.name
                _measure_there(setting, site, figures, scale, report, profile)
        except Failed as failed:
            figures.fail(setting.name, "", "", str(failed))
            report("", setting.name, str(failed))


def _measure_there(
    setting: Setting,
    site: Site,
    figures: Figures,
    scale: Scale,
    report: Report,
    profile: bool,
) -> None:
    pairs: dict[Subject, tuple[Pair, ExitStack]] = {}

    def end(subject: Subject) -> None:
        _, stack = pairs.pop(subject, (None, None))
        if stack is not None:
            stack.close()

    hopeless: set[Subject] = set()
    try:
        for each in setting.measures:
            for subject in setting.subjects:
                if each.needs not in subject.can or subject in hopeless:
                    continue
                try:
                    if subject not in pairs:
                        stack = ExitStack()
                        try:
                            pairs[subject] = stack.enter_context(Pair.started(subject, site)), stack
                        except Failed:
                            hopeless.add(subject)
                            raise
                    pair = pairs[subject][0]
                    if profile:
                        pair.profile(True)
                    found = each.run(pair, scale)
                    if profile:
                        for which, where in pair.profile(False).items():
                            report(subject.name, f"{each.name}, {which}", where)
                except Failed as failed:
                    figures.fail(setting.name, subject.name, each.name, str(failed))
                    report(subject.name, each.name, str(failed))
                    end(subject)
                    continue
                shown = {}
                for metric, value in found.items():
                    name = setting.metric(metric)
                    if name is not None:
                        figures.add(name, subject.name, value)
                        shown[name] = value
                report(subject.name, each.name, shown)
    finally:
        for subject in setting.subjects:
            end(subject)
