"""Names the known mistake that explains what a port gave."""
