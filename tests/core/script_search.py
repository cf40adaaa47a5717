"""Where scripts come from: Hypothesis draws them, and shrinks the one that fails.

    python -m tests.core.script_search --examples 20000       # `make prove`

Prints the shortest failing script as a test to paste into `test_scripts.py`; keeps it in `.hypothesis/`, so that the
next run begins with it. Exit status 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from tests.core import script as s
from tests.core.script import SHORT_LIFETIMES, Script, Setting, play, program

__all__ = ["cases"]

_sides = st.sampled_from(["a", "b"])
_senders = st.sampled_from(["a", "b", "r"])
_streams = st.integers(0, 5)
_sizes = st.one_of(st.integers(0, 64), st.integers(0, 5_000), st.sampled_from([1_157, 70_000, s.WRITE_LIMIT]))
_moments = st.sampled_from([0.0, 0.001, 0.004, 0.011, 0.021, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 200.0])
_skips = st.integers(0, 12)
_bits = st.integers(1, 255)

_Kinds = dict[st.SearchStrategy[Any], int]
"""Steps by how often they are drawn."""
_streaming: _Kinds = {
    st.builds(s.Wait, _moments): 9,
    st.builds(s.Open, _sides, st.booleans()): 4,
    st.builds(s.Ask, _sides, st.integers(1, 9), st.integers(0, 5_000)): 2,
    st.builds(s.Write, _sides, _streams, _sizes): 10,
    st.builds(s.Finish, _sides, _streams): 3,
    st.builds(s.Pause, _sides, _streams): 2,
    st.builds(s.Resume, _sides, _streams): 2,
    st.builds(s.Datagram, _sides, _streams, st.integers(0, 1_136)): 1,
}
_ending: _Kinds = {st.builds(s.Reset, _sides, _streams): 2, st.builds(s.Stop, _sides, _streams): 2}
_weather: _Kinds = {
    st.builds(s.Drop, _senders, _skips, st.integers(1, 40)): 3,
    st.builds(s.Delay, _senders, _skips, st.integers(1, 20), _moments): 2,
    st.builds(s.Duplicate, _senders, _skips, st.integers(1, 20), _moments): 2,
    st.builds(s.Corrupt, _senders, _skips, st.integers(0, 1_500), _bits): 1,
    st.builds(s.Truncate, _senders, _skips, st.integers(0, 1_500)): 1,
    st.builds(s.Lose, _senders, st.integers(0, 12)): 2,
    st.builds(s.Cut, st.sampled_from(["all", "direct", "relayed", "to a", "to b"])): 1,
    st.builds(s.Mend): 2,
    st.builds(s.Narrow, st.sampled_from([1_200, 1_300, 1_452, 65_535])): 1,
    st.builds(s.Move, _sides): 1,
}
_keys: _Kinds = {st.builds(s.Rekey, _sides): 3, st.builds(s.NewKeys, _sides): 1}
_lives: _Kinds = {st.builds(s.Connect, _sides): 1, st.builds(s.Close, _sides): 1, st.builds(s.Restart, _sides): 1}

_settings = st.builds(
    Setting,
    relay=st.booleans(),
    admit=st.booleans(),
    delay=st.sampled_from([0.01, 0.0002, 0.1]),
    lifetimes=st.sampled_from([s.limits.LIFETIMES, SHORT_LIFETIMES]),
    congestion=st.sampled_from(["cubic", "bbr"]),
)


def _scripts(*kinds: _Kinds) -> st.SearchStrategy[Script]:
    """Long ones: a step that is drawn as None is none, so they shrink to short ones without being drawn short."""
    weighted = [step for kind in kinds for step, weight in kind.items() for _ in range(weight)]
    step = st.sampled_from([st.none(), *weighted]).flatmap(lambda chosen: chosen)
    return st.lists(step, min_size=30, max_size=60).map(lambda steps: [step for step in steps if step is not None])


cases: st.SearchStrategy[tuple[Setting, Script]] = st.tuples(
    _settings,
    st.one_of(
        # Most scripts leave connections and streams alive: then everything must arrive, and the model is strictest.
        _scripts(_streaming),
        _scripts(_streaming, _weather),
        _scripts(_streaming, _weather, _keys),
        _scripts(_streaming, _weather, _ending),
        _scripts(_streaming, _weather, _ending, _keys, _lives),
    ),
)
"""Scripts with their settings. The first kind of each choice is the simplest, so scripts shrink towards it."""


def explore(examples: int, *, shrink: bool = True, seconds: float = float("inf")) -> tuple[int, str]:
    """Plays up to `examples` scripts. (How many were played, the shortest that failed as a test or "")."""
    played = 0
    failing = ""
    began = time.monotonic()

    def one(case: tuple[Setting, Script]) -> None:
        nonlocal played, failing
        if time.monotonic() - began > seconds and not failing:
            return
        played += 1
        try:
            play(*case)
        except Exception:
            failing = program(*case)
            note(failing)
            raise

    phases = [Phase.explicit, Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])]
    search: Callable[[], None] = given(cases)(
        settings(
            max_examples=examples,
            phases=phases,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            **({} if shrink else {"derandomize": True, "database": None}),
        )(one)
    )
    try:
        search()
    except Exception as error:
        return played, f"{failing}\n# {type(error).__name__}: {error}"
    return played, ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Play random scripts until one fails.")
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--mutant", action="store_true", help="derandomized, without shrinking: for scripts.mutants")
    arguments = parser.parse_args()
    played, failing = explore(arguments.examples, shrink=not arguments.mutant, seconds=60 * arguments.minutes)
    outcome = f", the shortest that fails:\n\n{failing}" if failing else ", all as they should be"
    sys.stdout.write(f"{played} scripts{outcome}\n")
    return 1 if failing else 0


if __name__ == "__main__":
    sys.exit(main())
