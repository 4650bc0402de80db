"""Kubeflow Pipelines components: a signature, a description, and one call into headrace each."""

from headrace import __version__

IMAGE = f"headrace/components:{__version__}"
