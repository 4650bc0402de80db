ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS package
# Debian keeps one version of a package, so none can be pinned.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/*

# Of the package the server alone: its pages are most of it.
FROM ${BASE_IMAGE}
COPY --from=package /usr/bin/prometheus /usr/bin/
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["prometheus"]
