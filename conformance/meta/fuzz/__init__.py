"""Real files of every format that the suite reads, mutated by the thousand; each ends with an error that says why."""
