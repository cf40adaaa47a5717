"""Where agents run: a problem of integers, a greedy solver with local search, the same model for HiGHS, and words for
what does not fit. Pure."""

from covey.fleet.placing.place import place
from covey.fleet.placing.problem import Item, Problem

__all__ = ["Item", "Problem", "place"]
