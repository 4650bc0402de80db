"""One file per outside system: translate types and exceptions, nothing else."""
