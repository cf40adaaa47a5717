"""The fleet: where agents run and where requests go, by demand, price, capacity and health, with every decision
explained.

One turn of the loop is a pure function (`loop.turn`) of what was observed and what is remembered; `loop.controller`
observes, journals and acts around it. Each package's docstring says what may live there. Pure, held by a contract (no
clock, no randomness, no I/O): `model`, `spec.types`, `demand`, `placing`, `filtering`, `routing`, `health`,
`loop.turn`.
"""
