"""Readers of demand signals: each turns one target into `Reading`s, on its own, with a time-out, never waited for by
a turn."""
