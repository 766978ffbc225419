# The proxy of compose.cluster.yaml, from Debian's package
FROM python:3.14-slim AS proxy
# A mirror may lag behind its dates; the signatures are checked all the same.
RUN apt-get -o Acquire::Check-Valid-Until=false update \
 && apt-get install --yes --no-install-recommends haproxy \
 && rm -rf /var/lib/apt/lists/*
COPY ops/proxy.cfg /etc/haproxy/haproxy.cfg
USER haproxy
EXPOSE 8080
STOPSIGNAL SIGUSR1
CMD ["haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"]

# One image for every service and the simulator; the command chooses: python -m services.gateway
FROM python:3.14-slim

LABEL org.opencontainers.image.title="Postrider" \
      org.opencontainers.image.description="A mail pipeline: gateway, sender, otp, classifier, ledger, scheduler, inbound, webhooks, console, simulator" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT AND Apache-2.0 AND 0BSD" \
      org.opencontainers.image.base.name="docker.io/library/python:3.14-slim"

# Safe path: modules come from the installation, never from a working directory or a mounted folder.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PATH=/opt/postrider/bin:$PATH \
    DATA_DIR=/data \
    HEALTH_PORT=8090

RUN groupadd --gid 10001 postrider \
 && useradd --uid 10001 --gid postrider --home-dir /data --no-create-home postrider \
 && install --directory --owner=postrider --group=postrider /data \
 && python -m venv --without-pip /opt/postrider

WORKDIR /usr/src/postrider

# A layer of their own: a change of the code leaves the libraries as they are.
COPY requirements.lock ./
RUN pip --python /opt/postrider/bin/python install --no-cache-dir --disable-pip-version-check \
      --root-user-action=ignore --require-hashes --only-binary=:all: -r requirements.lock

COPY . ./
RUN pip --python /opt/postrider/bin/python install --no-cache-dir --disable-pip-version-check \
      --root-user-action=ignore --no-deps --no-build-isolation . \
 && install --mode=755 ops/entrypoint /usr/local/bin/postrider-entrypoint

WORKDIR /data
USER 10001
STOPSIGNAL SIGTERM
# A service is healthy when it is ready, the simulator when it answers, any other program while it runs.
HEALTHCHECK --interval=10s --timeout=15s --start-period=120s --retries=6 \
  CMD ["python", "-m", "ops.health"]
ENTRYPOINT ["postrider-entrypoint"]
CMD ["ops", "--help"]
