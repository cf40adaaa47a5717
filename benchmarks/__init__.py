"""The benchmark: Covey, its baselines and its rivals between two network namespaces.

`python -m benchmarks` (`make bench`) measures; `python -m benchmarks compare A B` compares two commits. What it is
made of:

================================ ======================================================================================
`covey.bench.jobs`               services and jobs, written once for everybody: echo, sink, source, messages, datagrams,
                                 sessions. A contender is a `Speaker` there: it serves at one end and gives `Peer`s at
                                 the other, each of which opens named channels
`covey.bench.worker`, `.pair`    a process for each end that reads commands; `Subject` is a contender's entry:
                                 `Subject(name, "module:Speaker", can={...}, prepare=..., missing=...)`
`covey.bench.measures`           what is asked of a pair; figures by metric, whose name says the unit
`covey.bench.run`                `Setting(name, site, subjects, measures, names)`; runs them interleaved
`benchmarks.lab`                 namespaces and veth pairs (rootless), or loopback
`benchmarks.sites`               links with loss (`.offloads`) and with a delay (`.link`), and a relay between the ends
`benchmarks.beside`              programs that run beside the two ends, and end with them
`benchmarks.relay`, `.daemons`   nodes by way of a rendezvous; programs that use daemons
`benchmarks.peers`, `.install`   the rivals of `--peers`, and how they come into a cache
`benchmarks.plan`                the settings of `make bench`: add rows there
`benchmarks.results`             latest.json, latest-run.json, history.jsonl
`benchmarks.page`, `.plot`       the table of docs/benchmarks.md and results/history.svg, made from them
`benchmarks.compare`             two commits: from the history, or both checked out and measured in turns
`benchmarks.machine`             where it was measured, and whether the machine had other work
================================ ======================================================================================

To add a contender, write a speaker (a module that is imported only in its own two processes) and a `Subject`; what has
to run beside the two ends (a daemon, a relay, a tunnel) is started by `prepare(site, directory)`, a context manager
in the harness that may give the workers options and other addresses. To add rows, add a `Setting` to the plan.

The other files here measure single things: `crypto_micro.py`, `udp_micro.py`, `cli_answer.py`, `floods.py`.
"""
