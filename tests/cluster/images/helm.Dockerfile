# Where components/Dockerfile looks for helm.
FROM scratch
COPY helm /usr/bin/
USER 10001:10001
ENTRYPOINT ["/usr/bin/helm"]
