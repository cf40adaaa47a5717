"""`make fleet-demo`: a real fleet follows a load, while agents, a pool and the controller are killed."""
