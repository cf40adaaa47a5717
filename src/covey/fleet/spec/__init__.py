"""The user's file: its structures (`types`), reading TOML and YAML with lines (`load`), checks, JSON Schema,
differences."""
