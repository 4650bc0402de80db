FROM scratch
COPY traefik /
USER 10001:10001
ENTRYPOINT ["/traefik"]
