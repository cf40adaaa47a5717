"""Kill daemons in the middle of their work, and count what was lost: nothing may be.

    python -m scripts.kill_test [--messages 2000] [--seed N] [--rounds 1] [--seconds 45] [--keep]

Two rendezvous and two agents that trust each other, all real processes in a temporary directory. Both agents
send at the same time, through the local API as a program would: single messages and batches, with ids made by
the client, waiting 0 to 1 s for the delivery. Meanwhile a killer ends A, B, either rendezvous, or several of
them, with SIGKILL at random moments (also while they start), and starts them again up to 2 s later. A rendezvous is
also frozen (SIGSTOP) for a while, or told to stop (SIGTERM). A careful
client repeats a call that died, with the same ids; some calls are deliberately not repeated, and some that
succeeded are.

What the API called `delivered` or `queued` is a promise. At the end, when everything runs and the outboxes
are empty, both inboxes must hold each promised message exactly once, unaltered, in the order of the promises
of each client, and nothing that was never sent. What was called `delivered` is also looked for in the
recipient's inbox while the sender is dead.

Moments are random and the machine decides what meets what, so a seed repeats the plan of a run, not the run.
When something is wrong the directory with all logs, databases and `events.log` is kept, and its place is
printed.

Exit status: 0 nothing wrong, 1 a violation, 2 it could not run, 130 Ctrl-C.

plan.py what is sent and found; stage.py the processes; killer.py, client.py, checks.py what happens to them;
round.py one round; report.py the command line.
"""

from __future__ import annotations

from scripts.kill_test.plan import Plan, Result
from scripts.kill_test.round import run

__all__ = ["Plan", "Result", "run"]
