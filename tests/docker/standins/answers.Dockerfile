# Stands in for servers that these tests do not look into, and for Airflow.
# hadolint global ignore=DL3006,DL3008
FROM python:3.13-slim-bookworm
RUN apt-get update -q \
 && apt-get install -q -y --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/*
COPY answers.py /answers.py
ENTRYPOINT ["python3", "/answers.py"]
