"""A training step that is run elsewhere: what is handed out, and what comes back."""
