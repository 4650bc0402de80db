"""What stands around the model services in the cluster tests: stores, registry, proxy, Prometheus, rights, policies.

    python -m tests.cluster.platform up | down | forward | probe

Volumes are emptyDirs: a pod that is replaced begins anew.
"""
