"""Kubeflow pipelines: edges and conditions."""
