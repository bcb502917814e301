"""Weights of other projects, read without running what is in their files."""
