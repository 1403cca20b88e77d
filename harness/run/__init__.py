"""One check from start to end: the model, the pipeline, the reference."""
