"""Stand-ins for vendors' tools; README.md says what each imitates, and from which source."""
