"""The two-stage family: CenterNet2."""
