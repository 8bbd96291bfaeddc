"""Processes that are killed: a launcher that forks `tpo`, and the proof that nothing is lost."""
