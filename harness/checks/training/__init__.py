"""Judgements of a training: the rungs of a step, its processes, its log and its speed."""
