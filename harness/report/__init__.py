"""What a run found: records, the results document, the gate against an earlier one, the closing table."""
