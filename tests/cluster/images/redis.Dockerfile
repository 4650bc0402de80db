ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# Debian keeps one version of a package, so none can be pinned.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc /usr/share/locale /usr/share/man
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["redis-server"]
