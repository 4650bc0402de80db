"""Measurements, each one command; figures go to docs/benchmarks/."""
