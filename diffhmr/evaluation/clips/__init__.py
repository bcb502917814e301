"""Evaluation over whole sequences: which are measured (``data``), who answers (``predictors``), and the run."""
