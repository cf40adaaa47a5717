"""Where agents run: a problem of integers, a greedy solver with local search, the same model for HiGHS, and words for
what does not fit. Pure."""
