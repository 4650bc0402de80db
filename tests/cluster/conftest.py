"""What the cluster's tests share with others."""

from tests.faults.conftest import trained

__all__ = ["trained"]
