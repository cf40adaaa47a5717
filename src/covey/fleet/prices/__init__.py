"""What things cost: readers of the clouds' public price APIs, the catalog with ages, overrides, spot history,
egress."""
