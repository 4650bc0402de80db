"""The model service beside its peers: python -m benchmarks.serving writes docs/benchmarks/serving.md."""
