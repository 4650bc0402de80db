"""The model service for a long time, with everything that may happen to it: `python -m benchmarks.soak`."""
