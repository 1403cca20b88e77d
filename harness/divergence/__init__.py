"""Where a port first goes wrong: the layer, found by running the model cut short, and a small reproduction of it."""
