"""Ways to a green that was not earned: each ends otherwise."""
