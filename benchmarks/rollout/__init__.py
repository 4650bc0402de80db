"""What rollouts of bad versions cost: python -m benchmarks.rollout."""
