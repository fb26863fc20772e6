# Stands in for VersityGW: a program of that name, which is OpenStack Swift in one process.
# hadolint global ignore=DL3006
FROM marquee-test/answers
COPY requirements-swift.lock /opt/
RUN python3 -m venv /opt/swift \
 && /opt/swift/bin/pip install -q --no-cache-dir --no-deps --require-hashes -r /opt/requirements-swift.lock
COPY swift_server.py versitygw.py /opt/
RUN printf '#!/bin/sh\nexec /opt/swift/bin/python -W ignore /opt/versitygw.py "$@"\n' >/usr/local/bin/versitygw \
 && chmod +x /usr/local/bin/versitygw
