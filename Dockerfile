# One image for every service and the simulator; the command chooses: python -m services.gateway
FROM python:3.13-slim

# Safe path: modules come from the installation, never from a working directory or a mounted folder.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PATH=/opt/postrider/bin:$PATH \
    DATA_DIR=/data

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
ENTRYPOINT ["postrider-entrypoint"]
CMD ["ops", "--help"]
