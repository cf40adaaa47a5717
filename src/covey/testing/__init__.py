"""The simulator: many whole nodes in one process, on a virtual clock and a seeded network.

What may live here: the virtual loop, the network, faults, traces and the pytest plugin that replays a seed.
It is a product, not a fixture: who builds on Covey tests with it too. May import everything; only tests and
the `lab` command import it::

    async def scenario() -> None:
        network = SimNetwork(asyncio.get_running_loop(), seed=7)
        network.default = Link(latency_s=0.02, loss=0.01)
        a, b = SimHost(network, "10.0.0.1"), SimHost(network, "10.0.0.2")
        ...

    run(scenario(), seed=7)
"""

from covey.testing.bottleneck import Bottleneck, Flow
from covey.testing.host import HostCrashed, SimHost, SimPort
from covey.testing.link import Link
from covey.testing.loop import (
    SimDeadlock,
    SimError,
    SimLeak,
    SimLivelock,
    SimLoop,
    SimTimeLimit,
    SimUnhandled,
    run,
)
from covey.testing.nat import Dependence, Nat, NatKind, Ports
from covey.testing.network import Receiver, SimNetwork
from covey.testing.trace import Trace, TraceDiffers, replay

__all__ = [
    "Bottleneck",
    "Dependence",
    "Flow",
    "HostCrashed",
    "Link",
    "Nat",
    "NatKind",
    "Ports",
    "Receiver",
    "SimDeadlock",
    "SimError",
    "SimHost",
    "SimLeak",
    "SimLivelock",
    "SimLoop",
    "SimNetwork",
    "SimPort",
    "SimTimeLimit",
    "SimUnhandled",
    "Trace",
    "TraceDiffers",
    "replay",
    "run",
]
