"""The same model for HiGHS: a mixed-integer program built from the numbers of `rules`, judged by the same judge.

Constraints that may have to give way are solved in their order: first everything is asked to hold; only when that is
infeasible each missing amount is made as small as it can be, one after the other, and then fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from covey.base.errors import CoveyError
from covey.fleet.model import Placement
from covey.fleet.placing.place import finish
from covey.fleet.placing.plan import Plan, close_pools
from covey.fleet.placing.problem import Problem
from covey.fleet.placing.rules import Entry, Model, compile_problem

if TYPE_CHECKING:
    import highspy

__all__ = ["SolverError", "place_highs", "solve_highs"]

INFINITY = float("inf")


class SolverError(CoveyError):
    """HiGHS is not there, or gave no plan."""

    default_code = "solver"


def place_highs(problem: Problem, *, gap: float = 1e-4, seconds: float = 60.0) -> Placement:
    """`place` by HiGHS: within `gap` of the best plan, or the best one found in `seconds`."""
    model = compile_problem(problem)
    plan, _ = solve_highs(model, gap=gap, seconds=seconds)
    return finish(plan, "highs")


def solve_highs(model: Model, *, gap: float = 1e-4, seconds: float = 60.0) -> tuple[Plan, bool]:
    """A plan for `model`, and whether it keeps every constraint above cost."""
    program = _Program(model)
    values = program.solve(program.cost, gap, seconds)
    feasible = values is not None
    if values is None:
        program.relax()
        for stage in [*program.stages(), program.cost]:
            found = program.solve(stage, gap, seconds)
            if found is None:
                break  # out of time: what the stages before reached stands
            values = found
            program.hold(stage, values)
        if values is None:
            raise SolverError(
                "HiGHS found no plan in time", next_step="give it more time, or use the solver that needs no HiGHS"
            )
    plan = Plan(model)
    for entry, columns in zip(model.entries, program.agents, strict=True):
        counts = {j: round(values[column]) for j, column in enumerate(columns)}
        plan.put(entry, {j: n for j, n in counts.items() if n > 0})
    for entry in model.entries:
        close_pools(plan, entry)
    return plan, feasible


Terms = dict[int, float]
"""By column, its factor."""


class _Program:
    """Columns and rows. Missing amounts have columns whose upper bound is 0 until `relax`."""

    def __init__(self, model: Model) -> None:
        try:
            import highspy
            import numpy
        except ImportError as error:
            raise SolverError("the HiGHS solver is not installed", next_step="pip install 'covey[highs]'") from error
        self.highspy, self.numpy = highspy, numpy
        self.model = model
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.whole: list[bool] = []
        self.rows: list[tuple[float, float, Terms]] = []
        self.cost: Terms = {}
        self.agents: list[list[int]] = []
        self.missing: dict[str, list[tuple[Entry | None, int, float]]] = {
            part: [] for part in ("min", "budget", "survive", "demand", "weights")
        }
        """By constraint: whose, column, weight in its stage."""
        scopes: list[Terms] = [{} for _ in model.scope_room]
        pools: list[Terms] = [{} for _ in model.pool_room]
        paid: dict[str, Terms] = {}
        money: Terms = {}
        for entry in model.entries:
            self._entry(entry, scopes, pools, paid, money)
        self._affinity()
        for terms, room in zip([*scopes, *pools], [*model.scope_room, *model.pool_room], strict=True):
            self.row(terms, upper=room)
        for terms in paid.values():
            self.row(terms, upper=1.0)
        if model.limit < INFINITY:
            excess = self.column(0.0, 0.0)
            self.missing["budget"].append((None, excess, 1.0))
            self.row({**money, excess: -1.0}, upper=model.limit)

    # --- columns and rows ------------------------------------------------------------------------------------------

    def column(self, lower: float, upper: float, cost: float = 0.0, *, whole: bool = False) -> int:
        self.lower.append(lower)
        self.upper.append(upper)
        self.whole.append(whole)
        index = len(self.lower) - 1
        if cost:
            self.cost[index] = cost
        return index

    def row(self, terms: Terms, *, lower: float = -INFINITY, upper: float = INFINITY) -> None:
        if terms:
            self.rows.append((lower, upper, terms))

    def _entry(
        self, entry: Entry, scopes: Sequence[Terms], pools: Sequence[Terms], paid: dict[str, Terms], money: Terms
    ) -> None:
        most = max(entry.maximum, entry.low_total)
        columns: list[int] = []
        starts: list[int] = []
        for option in entry.options:
            low, high = option.low, min(option.high, most)
            if not entry.item.changed:
                low = high = option.running
            n = self.column(low, high, option.price, whole=True)
            columns.append(n)
            started = n
            if option.running and (option.scope_slot >= 0 or option.pool_slot >= 0 or option.stale):
                started = self.column(0.0, INFINITY)
                self.row({started: 1.0, n: -1.0}, lower=-option.running)
            starts.append(started)
            if option.scope_slot >= 0:
                scopes[option.scope_slot][started] = 1.0
            if option.pool_slot >= 0:
                pools[option.pool_slot][started] = 1.0
            if option.money:
                money[n] = option.money
            whole = option.offering.marginal_room
            if whole and option.free > 0:
                free = self.column(0.0, whole, -option.free, whole=True)
                self.row({free: 1.0, n: -1.0}, upper=0.0)
                paid.setdefault(option.key, {})[free] = 1.0 / whole
                money[free] = -option.free
        self.agents.append(columns)
        self.row(dict.fromkeys(columns, 1.0), upper=most)
        self._moves(entry, columns, starts)
        self._spot(entry, columns, most)
        for pool, cap in entry.pool_caps.items():
            inside = [j for j, option in enumerate(entry.options) if option.pool == pool]
            low = sum(entry.options[j].low for j in inside)
            self.row({columns[j]: 1.0 for j in inside}, upper=max(cap, low))
        self._wants(entry, columns)

    def _moves(self, entry: Entry, columns: list[int], starts: list[int]) -> None:
        """moves = min(N, R) - kept; and those that only a stale price speaks for."""
        if not entry.running:
            return
        big = float(max(entry.maximum, entry.low_total) + entry.running)
        agents = dict.fromkeys(columns, 1.0)
        kept: Terms = {}
        stale_kept: Terms = {}
        for option, n in zip(entry.options, columns, strict=True):
            if option.running:
                k = self.column(0.0, option.running)
                self.row({k: 1.0, n: -1.0}, upper=0.0)
                kept[k] = 1.0
                if option.stale:
                    stale_kept[k] = 1.0
        if entry.move:
            moves = self.column(0.0, INFINITY, entry.move)
            fewer = self.column(0.0, 1.0, whole=True)
            self.row({moves: 1.0, fewer: big, **kept} | _times(agents, -1.0), lower=0.0)
            self.row({moves: 1.0, fewer: -big, **kept}, lower=entry.running - big)
        stale_starts = {starts[j]: 1.0 for j, option in enumerate(entry.options) if option.stale}
        if not stale_starts:
            return
        # grows = 1: N >= R.
        grows = self.column(0.0, 1.0, whole=True)
        self.row({**agents, grows: -big}, upper=entry.running)
        self.row({**agents, grows: -big}, lower=entry.running - big)
        away = self.column(0.0, INFINITY, entry.stale_cost)
        self.row({away: 1.0, grows: -big, **stale_kept}, lower=entry.stale_running - big)
        self.row(
            _sum({away: 1.0, grows: big}, stale_kept, _times(agents, -1.0)),
            lower=entry.stale_running - entry.running,
        )
        there = self.column(0.0, INFINITY, entry.stale_cost)
        self.row(_sum({there: 1.0, grows: big}, _times(stale_starts, -1.0)), lower=0.0)
        self.row(
            _sum({there: 1.0, grows: -big}, _times(stale_starts, -1.0), agents),
            lower=entry.running - big,
        )

    def _spot(self, entry: Entry, columns: list[int], most: int) -> None:
        spots = {n: 1.0 for option, n in zip(entry.options, columns, strict=True) if option.spot}
        if not spots:
            return
        # spot <= share (N - base), or spot <= what is held.
        terms = _sum(spots, dict.fromkeys(columns, -entry.share))
        if entry.spot_base <= 0 and not entry.low_spot:
            self.row(terms, upper=0.0)
        else:
            big = float(most + entry.spot_base)
            used = self.column(0.0, 1.0, whole=True)
            self.row({**terms, used: big}, upper=big - entry.share * entry.spot_base)
            self.row({**spots, used: -float(most)}, upper=entry.low_spot)
        if len(entry.zones) < 2:
            return
        for zone in range(len(entry.zones)):
            inside = {n: 2.0 for option, n in zip(entry.options, columns, strict=True) if option.zone == zone}
            low = sum(option.low for option in entry.options if option.zone == zone)
            terms = _sum(inside, _times(spots, -1.0))
            if not low:
                self.row(terms, upper=1.0)
            else:
                free = self.column(0.0, 1.0, whole=True)
                self.row({**terms, free: -2.0 * most}, upper=1.0)
                self.row({**inside, free: 2.0 * most}, upper=2.0 * low + 2.0 * most)

    def _wants(self, entry: Entry, columns: list[int]) -> None:
        """Rows of what may be missing."""
        options = entry.options
        agents = dict.fromkeys(columns, 1.0)
        cover = {n: option.speed for option, n in zip(options, columns, strict=True)}
        if entry.minimum > 0:
            short = self._short("min", entry)
            self.row({**agents, short: 1.0}, lower=entry.minimum)
        if entry.need > 0 or entry.floor > 0:
            short = self._short("demand", entry)
            self.row({**cover, short: entry.need}, lower=entry.need)
            if entry.floor > 0:
                self.row({**agents, short: float(entry.floor)}, lower=entry.floor)
        if entry.keep > 0:
            short = self._short("survive", entry)
            for lost in combinations(range(len(entry.clouds)), min(entry.lose, len(entry.clouds))):
                outside = {
                    n: 1.0 if entry.keep_agents else option.speed
                    for option, n in zip(options, columns, strict=True)
                    if not option.spot and option.cloud not in lost
                }
                self.row({**outside, short: 1.0}, lower=entry.keep)
        for cloud, want in enumerate(entry.weights):
            if want > 0:
                short = self._short("weights", entry)
                inside = {n: option.speed for option, n in zip(options, columns, strict=True) if option.cloud == cloud}
                self.row({**inside, short: 1.0}, lower=want)

    def _short(self, part: str, entry: Entry) -> int:
        column = self.column(0.0, 0.0)
        self.missing[part].append((entry, column, 1.0))
        return column

    def _affinity(self) -> None:
        """`near` and `avoid`. Held agents are facts: only what a plan adds to them must keep to affinity."""
        names = {entry.name: entry for entry in self.model.entries}
        there: dict[tuple[int, str], int] = {}
        more: dict[tuple[int, str], int] = {}

        def columns(entry: Entry, pool: str) -> tuple[int, int]:
            """1 if any agent is in the pool; 1 if any is beside those held there."""
            key = entry.index, pool
            if key not in there:
                inside = [j for j, option in enumerate(entry.options) if option.pool == pool]
                low = sum(entry.options[j].low for j in inside)
                here = {self.agents[entry.index][j]: 1.0 for j in inside}
                most = float(max(entry.maximum, entry.low_total))
                there[key] = self.column(0.0, 1.0, whole=True)
                self.row({**here, there[key]: -most}, upper=0.0)
                self.row({**here, there[key]: -1.0}, lower=0.0)
                more[key] = self.column(0.0, 1.0, whole=True)
                self.row({**here, more[key]: -most}, upper=low)
            return there[key], more[key]

        for entry in self.model.entries:
            place = entry.item.workload.place
            for pool in sorted({option.pool for option in entry.options}):
                for name in place.near:
                    if name in names and name != entry.name:
                        self.row({columns(entry, pool)[1]: 1.0, columns(names[name], pool)[0]: -1.0}, upper=0.0)
                for name in place.avoid:
                    if name in names and name != entry.name:
                        one, other = columns(entry, pool), columns(names[name], pool)
                        self.row({one[1]: 1.0, other[0]: 1.0}, upper=1.0)
                        self.row({other[1]: 1.0, one[0]: 1.0}, upper=1.0)

    # --- solving --------------------------------------------------------------------------------------------------

    def relax(self) -> None:
        """Let what may be missing be missing."""
        for columns in self.missing.values():
            for _, column, _ in columns:
                self.upper[column] = INFINITY

    def stages(self) -> Iterable[Terms]:
        """What to make small, one after the other."""
        for part in ("min", "budget", "survive"):
            yield {column: weight for _, column, weight in self.missing[part]}
        demand = [(entry, column) for entry, column, _ in self.missing["demand"] if entry is not None]
        for priority in sorted({entry.priority for entry, _ in demand}, reverse=True):
            level = [column for entry, column in demand if entry.priority == priority]
            worst = self.column(0.0, INFINITY)
            for column in level:
                self.row({worst: 1.0, column: -1.0}, lower=0.0)
            yield {worst: 1.0}
            yield dict.fromkeys(level, 1.0)
        yield {column: weight for _, column, weight in self.missing["weights"]}

    def hold(self, stage: Terms, values: Sequence[float]) -> None:
        """What a stage reached stays reached."""
        reached = sum(factor * values[column] for column, factor in stage.items())
        self.row(stage, upper=reached + 1e-5 * max(1.0, reached))

    def solve(self, objective: Terms, gap: float, seconds: float) -> Sequence[float] | None:
        """The values of all columns, or None when there is no plan."""
        np, highspy = self.numpy, self.highspy
        lp = highspy.HighsLp()
        lp.num_col_ = len(self.lower)
        lp.num_row_ = len(self.rows)
        costs = np.zeros(len(self.lower))
        for column, factor in objective.items():
            costs[column] = factor
        lp.col_cost_ = costs
        lp.col_lower_ = np.array(self.lower, dtype=np.float64)
        lp.col_upper_ = np.array(self.upper, dtype=np.float64)
        lp.row_lower_ = np.array([lower for lower, _, _ in self.rows], dtype=np.float64)
        lp.row_upper_ = np.array([upper for _, upper, _ in self.rows], dtype=np.float64)
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[whole] for whole in self.whole]
        begin = np.zeros(len(self.rows) + 1, dtype=np.int32)
        np.cumsum([len(terms) for _, _, terms in self.rows], out=begin[1:])
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = begin
        lp.a_matrix_.index_ = np.array([column for _, _, terms in self.rows for column in terms], dtype=np.int32)
        lp.a_matrix_.value_ = np.array([f for _, _, terms in self.rows for f in terms.values()], dtype=np.float64)
        solver = highspy.Highs()
        for name, value in (("output_flag", False), ("threads", 1), ("mip_rel_gap", gap), ("time_limit", seconds)):
            solver.setOptionValue(name, value)
        solver.setOptionValue("mip_feasibility_tolerance", 1e-7)
        solver.passModel(lp)
        solver.run()
        return _values(solver, highspy.HighsModelStatus)


def _values(solver: highspy.Highs, status: type[highspy.HighsModelStatus]) -> Sequence[float] | None:
    reached = solver.getModelStatus()
    if reached not in (status.kOptimal, status.kTimeLimit) or not solver.getSolution().value_valid:
        return None
    values: list[float] = list(solver.getSolution().col_value)
    return values


def _times(terms: Terms, factor: float) -> Terms:
    return {column: factor * value for column, value in terms.items()}


def _sum(*parts: Terms) -> Terms:
    found: Terms = {}
    for part in parts:
        for column, value in part.items():
            found[column] = found.get(column, 0.0) + value
    return found
