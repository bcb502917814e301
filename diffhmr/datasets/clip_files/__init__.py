"""Clips of the files that MotionBERT and DiffMesh learn from; data/README.md describes the formats."""
