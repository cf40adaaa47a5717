"""Between the plan and the deed: which steps are worth it and safe now, each leaving every hard constraint true.
Pure."""
