"""Headrace: the MLOps loop as code."""

__version__ = "0.1.0"
