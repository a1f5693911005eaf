"""Scores a submission to FusionBrain Challenge 2.0: `python -m evaluator --help`."""
