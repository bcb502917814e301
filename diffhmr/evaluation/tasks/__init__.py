"""Evaluation of lifting and of action recognition."""
