"""The conformance tests: one file a stage."""
