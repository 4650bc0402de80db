"""A real single-node Kubernetes for the tests: `python -m tests.cluster.node up|down|status|build`.

Everything of the node is in namespaces of its own (network, processes, mounts), whose first process is the only thing
to end when it goes down: the kernel ends the rest, containers included, and their mounts with them.
"""
