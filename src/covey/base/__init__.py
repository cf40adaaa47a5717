"""L0: errors, types, the cursor codec and constants. Imports nothing of Covey and nothing that does I/O."""
