# The site as files, behind the proxy. From the root of the repository:
#   docker build -f deploy/docker/web.Dockerfile -t marquee-web .
# NODE_IMAGE: anything with Node.js 20.19 or newer. BASE_IMAGE, by default CADDY_IMAGE, which Compose knows it by:
# anything with Caddy 2.6 or newer, and `wget`.
ARG NODE_IMAGE=node:22.23.3-bookworm-slim@sha256:43ac6c60b8f89723f746e8a92ce91abd5017e627ce1ddfe4238355d3a30b772c
ARG CADDY_IMAGE=caddy:2.10-alpine@sha256:4c6e91c6ed0e2fa03efd5b44747b625fec79bc9cd06ac5235a779726618e530d
ARG BASE_IMAGE=${CADDY_IMAGE}

FROM ${NODE_IMAGE} AS builder
WORKDIR /build/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
COPY web ./
RUN npm run --silent build

FROM ${BASE_IMAGE}
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Marquee site" \
      org.opencontainers.image.description="The site of Marquee as files." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
# A copy of the program without the capability of the original, which could not be started where there are none.
RUN cp /usr/bin/caddy /usr/local/bin/caddy \
 && echo 'marquee:x:10001:10001::/nonexistent:/sbin/nologin' >> /etc/passwd \
 && echo 'marquee:x:10001:' >> /etc/group
COPY deploy/proxy/site.Caddyfile /etc/caddy/Caddyfile
COPY --from=builder /build/src/marquee/api/site_files /srv
ENV XDG_CONFIG_HOME=/tmp/config \
    XDG_DATA_HOME=/tmp/data
USER 10001:10001
WORKDIR /srv
EXPOSE 8090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8090/healthz"]
ENTRYPOINT []
CMD ["/usr/local/bin/caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
