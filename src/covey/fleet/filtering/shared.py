"""What the workloads of one sifting share, and what comes out of it."""

from __future__ import annotations

from covey.fleet.filtering.brakes import Brakes, Purse, disruptions
from covey.fleet.filtering.moves import AGAIN_AFTER
from covey.fleet.filtering.types import Drain, Move, Sifted, SiftInput, SiftState
from covey.fleet.model import Step

__all__ = ["Shared"]


class Shared:
    """One sifting: what is shared by its workloads, and what comes out."""

    def __init__(self, given: SiftInput, state: SiftState) -> None:
        self.given = given
        self.state = state
        self.now = given.now
        self.steps: list[Step] = []
        self.held: dict[str, list[str]] = {}
        self.moves: list[Move] = []
        self.moved = state.moved
        if any(given.now - each.at >= AGAIN_AFTER for each in state.moved):
            self.moved = tuple(each for each in state.moved if given.now - each.at < AGAIN_AFTER)
        self.drains: dict[str, Drain] = {}
        self.acting: list[str] = []
        self.old_moves: dict[str, list[Move]] = {}
        for move in state.moves:
            self.old_moves.setdefault(move.workload, []).append(move)
        self._brakes: Brakes | None = None
        self._purse: Purse | None = None
        self._disruptions: dict[tuple[str, str], int] | None = None

    # Shared means are made when first asked for: most turns need none.

    @property
    def brakes(self) -> Brakes:
        if self._brakes is None:
            self._brakes = Brakes(self.given, self.state.removals)
        return self._brakes

    @property
    def purse(self) -> Purse:
        if self._purse is None:
            self._purse = Purse(self.given)
        return self._purse

    @property
    def disruptions(self) -> dict[tuple[str, str], int]:
        if self._disruptions is None:
            self._disruptions = disruptions(self.given)
        return self._disruptions

    def sifted(self) -> Sifted:
        return Sifted(steps=tuple(self.steps), held={name: tuple(reasons) for name, reasons in self.held.items()})

    def remembered(self) -> SiftState:
        state = self.state
        removals = state.removals
        if self._brakes is not None:
            removals = self._brakes.removals(self.acting, self.now)
        elif removals:
            removals = self.brakes.kept
        moves = tuple(self.moves)
        if (
            moves == state.moves
            and self.moved is state.moved
            and self.drains == state.drains
            and removals == state.removals
        ):
            return state
        return SiftState(moves=moves, moved=self.moved, drains=self.drains, removals=removals)
