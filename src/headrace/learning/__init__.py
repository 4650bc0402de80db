"""Fit, predict, export and draw: the only room that knows the machine-learning libraries."""
