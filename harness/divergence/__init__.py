"""Search for the first wrong layer of a port by runs of the model cut short, and a small reproduction of it."""
