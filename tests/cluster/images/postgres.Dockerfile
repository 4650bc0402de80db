ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# Debian keeps one version of a package, so none can be pinned. LLVM is a third of all this, for long queries alone.
# hadolint ignore=DL3008
RUN mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && apt-get install -y --no-install-recommends postgresql-15 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc /usr/share/locale /usr/share/man /usr/lib/llvm-* \
    /usr/lib/*/libLLVM* /usr/lib/postgresql/15/lib/bitcode /usr/lib/postgresql/15/lib/llvmjit* \
 && echo 'postgres10001:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd
COPY postgres.sh /usr/local/bin/
ENV PATH=/usr/lib/postgresql/15/bin:$PATH
USER 10001:10001
ENTRYPOINT ["sh", "/usr/local/bin/postgres.sh"]
