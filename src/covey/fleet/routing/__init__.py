"""Where requests go: weights of localities and agents from what is ready, and the same table as Envoy EDS. Pure.

`routes` makes the table, `pick` reads it for one request, `ejection` takes out who fails, `eds` writes it for Envoy.
"""

from covey.fleet.routing.eds import cluster, eds
from covey.fleet.routing.ejection import EjectionState, Ejector, eject
from covey.fleet.routing.pick import pick
from covey.fleet.routing.routes import RouteInput, routes

__all__ = ["EjectionState", "Ejector", "RouteInput", "cluster", "eds", "eject", "pick", "routes"]
