# Airflow with Marquee's DAGs, which drive the pipelines over HTTP. From the root of the repository:
#   docker build -f deploy/docker/airflow.Dockerfile -t marquee-airflow .
# BASE_IMAGE: see api.Dockerfile. What it is told, it is told by AIRFLOW__* (deploy/compose/controltower.yml).
ARG BASE_IMAGE=python:3.13.14-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8

FROM ${BASE_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Nothing of this stage but /opt/airflow goes on, so what apt brings need not be pinned.
# hadolint ignore=DL3008
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/build \
 && python3 -m venv --without-pip /opt/airflow
WORKDIR /build
COPY requirements-airflow.lock ./
RUN /opt/build/bin/pip --python /opt/airflow/bin/python install -q --require-hashes --no-deps -r requirements-airflow.lock
COPY deploy/docker/trim.py ./
RUN python3 trim.py /opt/airflow/lib/python3*/site-packages
COPY dags /opt/airflow/dags
# Bytecode that is never compared with its source: files in an image do not change.
RUN /opt/airflow/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/airflow/lib /opt/airflow/dags

FROM ${BASE_IMAGE}
ARG VERSION=unreleased
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Marquee Airflow" \
      org.opencontainers.image.description="Airflow with the DAGs of Marquee." \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Whoever gets in finds nothing to install with.
RUN find / -xdev \( -name 'pip' -o -name 'pip-*' -o -name 'ensurepip' -o -name 'setuptools*' -o -name 'python-wheels' \) \
      -path '*/python*' -prune -exec rm -rf {} + \
 && rm -rf /usr/local/bin/pip* /usr/bin/pip* /usr/share/python-wheels \
 && groupadd --gid 10001 marquee \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/airflow --shell /usr/sbin/nologin marquee \
 && install -d -o 10001 -g 10001 -m 0750 /var/lib/airflow
COPY --from=builder /opt/airflow /opt/airflow
# The triggerer finds triggers by their module, wherever DAGs come from: hence PYTHONPATH.
ENV AIRFLOW_HOME=/var/lib/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/dags \
    PATH=/opt/airflow/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/airflow/dags \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/airflow
VOLUME /var/lib/airflow
EXPOSE 8080
STOPSIGNAL SIGTERM
# Four programs run from this image, of which one listens: Compose says what is asked of which.
HEALTHCHECK NONE
CMD ["airflow", "api-server"]
