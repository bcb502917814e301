"""Evaluation: what a protocol is, the truth it measures against, and the run that writes one JSON file and a table."""
