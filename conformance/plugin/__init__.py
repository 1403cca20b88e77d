"""The pytest layer: options, devices, records, expectations, summary; one small module each."""
