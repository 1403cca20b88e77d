"""Files that pass between hosts: inputs, heads, results, and records that tools write about them."""
