"""One file a stage: the specification of how a port computes it, the computation, and the known faults in it."""
