"""Findings of a run: records, the results document, the gate against an earlier one, the summary."""
