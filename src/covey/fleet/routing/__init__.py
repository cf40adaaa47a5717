"""Where requests go: weights of localities and agents from what is ready, and the same table as Envoy EDS. Pure."""
