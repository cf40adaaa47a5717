"""`covey fleet ...`: one file for each noun. A command returns a `Result`, which `program` prints once, for people or
as JSON. Commands speak to the controller through the store, so that they work while it is down."""
