"""The judgements: plain functions from values to records."""
