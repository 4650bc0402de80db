"""The laptop family: the same ports with no cluster."""
