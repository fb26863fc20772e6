# The API: `marquee serve`. From the root of the repository:
#   docker build -f deploy/docker/api.Dockerfile -t marquee-api .
# BASE_IMAGE: any Debian with Python 3.11 or newer as `python3`, and `python3 -m venv`.
ARG BASE_IMAGE=python:3.13.14-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8

FROM ${BASE_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Nothing of this stage but /opt/marquee goes on, so what apt brings need not be pinned.
# hadolint ignore=DL3008
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/build \
 && python3 -m venv --without-pip /opt/marquee
WORKDIR /build
COPY requirements-api.lock requirements-build.lock ./
RUN /opt/build/bin/pip install -q --require-hashes --no-deps -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/marquee/bin/python install -q --require-hashes --no-deps -r requirements-api.lock
COPY deploy/docker/trim.py ./
RUN python3 trim.py /opt/marquee/lib/python3*/site-packages --serving
COPY LICENSE README.md pyproject.toml ./
COPY deploy/alertmanager deploy/alertmanager
COPY deploy/loki deploy/loki
COPY deploy/prometheus deploy/prometheus
COPY src src
# Bytecode that is never compared with its source: files in an image do not change.
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation -w dist . \
 && /opt/build/bin/pip --python /opt/marquee/bin/python install -q --no-deps --no-index dist/*.whl \
 && /opt/marquee/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/marquee/lib
COPY deploy/docker/healthcheck.py /opt/marquee/

FROM ${BASE_IMAGE}
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Marquee API" \
      org.opencontainers.image.description="Movie recommendations over HTTP." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Whoever gets in finds nothing to install with.
RUN find / -xdev \( -name 'pip' -o -name 'pip-*' -o -name 'ensurepip' -o -name 'setuptools*' -o -name 'python-wheels' \) \
      -path '*/python*' -prune -exec rm -rf {} + \
 && rm -rf /usr/local/bin/pip* /usr/bin/pip* /usr/share/python-wheels \
 && groupadd --gid 10001 marquee \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/marquee --shell /usr/sbin/nologin marquee \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/marquee
COPY --from=builder /opt/marquee /opt/marquee
ENV MARQUEE_HOME=/var/lib/marquee \
    MARQUEE_HOST=0.0.0.0 \
    PATH=/opt/marquee/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/marquee
VOLUME /var/lib/marquee
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-IS", "/opt/marquee/healthcheck.py", "MARQUEE_PORT:8000", "/readyz"]
ENTRYPOINT ["marquee"]
CMD ["serve"]
