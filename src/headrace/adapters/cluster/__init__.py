"""The cluster family of adapters: Helm, Traefik's custom resources, Prometheus, Kubeflow Pipelines, S3."""
