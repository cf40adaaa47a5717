"""Paths on real kernels: which pairs of agents connect directly, and how long a path's death is noticed.

===================  =======================================================================================
`agent.py`           one agent as a program: commands as lines of JSON in, what happened as lines of JSON out
`program.py`         such programs, and rendezvous, in the machines of a `covey.lab.Lab`
`load.py`            requests, bulk and messages between two agents, and whether anything was lost or doubled
`matrix.py`          `make nat-matrix`: pairs of NAT kinds
`failover.py`        `make failover`: the gap when a path, a relay, a rendezvous or an uplink goes
`cuts.py`            `make ten-minutes`: one stream while something is cut every 20 seconds
`nebula.py`          a rival in the same lab
===================  =======================================================================================
"""
