"""Between the plan and the deed: which steps are worth it and safe now, each leaving every hard constraint true.
Pure.

`sift` is the whole of it: `follow` leads one workload towards its placement, `steps` lets single agents through,
`situation` has its counts and the bounds no step may break, `moves` says when a replacement is worth it, `brakes` and
`shared` hold what all workloads share.
"""

from covey.fleet.filtering.sift import sift
from covey.fleet.filtering.types import Drain, Move, Moved, Removal, Sifted, SiftInput, SiftState, move_usd

__all__ = ["Drain", "Move", "Moved", "Removal", "SiftInput", "SiftState", "Sifted", "move_usd", "sift"]
