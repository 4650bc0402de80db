"""Pure decisions and values: standard library, numpy and scipy; no I/O, clock, environment or logging."""
