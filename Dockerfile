# The portal, or with another command a training: docker run … python manage.py train --run-id 1
# Without COXSWAIN_REDIS_URL the portal follows trainings from the database, up to two seconds later.
FROM pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /app
COPY requirements.txt requirements.lock ./
# The image brings torch, built for its CUDA: that one stays, everything else comes as the lock pins it.
RUN python -c "import torch; print(f'torch=={torch.__version__}')" > /tmp/constraints.txt \
    && grep -v '^torch==' requirements.lock >> /tmp/constraints.txt \
    && pip install -r requirements.txt -c /tmp/constraints.txt

COPY . .
# Node's packages are needed to bundle the browser libraries, not to serve them.
RUN python scripts/browser_libraries.py \
    && COXSWAIN_DATA=/tmp/build python manage.py collectstatic --noinput -v 0 \
    && rm -rf node_modules /tmp/build \
    && useradd --create-home --uid 10001 coxswain \
    && install -d -m 0700 -o coxswain /data

USER 10001
ENV COXSWAIN_DATA=/data
VOLUME /data
EXPOSE 8765

# Any answer but an error of ours: the host name and https are the proxy's to ask for.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8765, timeout=4); c.request('GET', '/login/'); raise SystemExit(c.getresponse().status >= 500)"]

CMD ["sh", "-c", "python manage.py migrate -v 0 && exec python manage.py serve_portal --bind 0.0.0.0 --port 8765"]
