"""The check of a training: its options, its session and its stages."""
