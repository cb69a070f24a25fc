# The front end, without PyTorch. The one-shot service that loads the Redis functions runs from this image too.
#   docker build -f deploy/producer_api.Dockerfile -t headrace-producer-api .
# --build-arg PYTHON_IMAGE=python@sha256:... builds on exactly that image, as a release does.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS requirements
COPY deploy/locked.py deploy/
COPY locks/ locks/
# --build-arg EXTRA_GROUP=tracing adds what HEADRACE_TRACING=otlp needs, and grpc what HEADRACE_GRPC_PORT needs. Several
# are separated by spaces; text is for consumers only, and brings PyTorch.
ARG EXTRA_GROUP=
RUN python deploy/locked.py pip > /pip.txt && python deploy/locked.py api $EXTRA_GROUP --not text > /requirements.txt

FROM ${PYTHON_IMAGE} AS packages
# Two environments: one that holds a current pip, and the one that is shipped, which needs none.
COPY --from=requirements /pip.txt /requirements.txt ./
RUN python -m venv /pip && /pip/bin/pip install --no-cache-dir --no-deps --require-hashes -r pip.txt \
    && python -m venv --without-pip /venv \
    && /pip/bin/pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.txt

FROM ${PYTHON_IMAGE}
# A volume that is mounted on one of these folders for the first time belongs to the user, too.
RUN useradd --system --uid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin headrace \
    && for name in server administrator front_end consumer operator health grafana; do \
         install -d -o headrace -g headrace -m 0755 "/access/$name"; \
       done \
    && install -d -o headrace -g headrace -m 0700 /results
COPY --from=packages /venv /venv
WORKDIR /app
COPY shared/ shared/
COPY producer_api/ producer_api/
COPY headrace/ headrace/
# Compile now: the running user may not write here, so each start would compile everything again. The base image
# has no compiled files.
RUN python -m compileall -qq -x '/(test|tests|idlelib|lib2to3|site-packages|dist-packages)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HEADRACE_HOST=0.0.0.0
# In a container something else balances the load: it is to notice that this one goes before it is gone.
ENV HEADRACE_DRAIN_S=5
# Shown by /version: docker build --build-arg GIT_COMMIT=$(git rev-parse HEAD) ...
ARG GIT_COMMIT=
ENV GIT_COMMIT=$GIT_COMMIT
USER headrace
# 0.0.0.0 needs HEADRACE_KEYS_FILE, or HEADRACE_ALLOW_ANONYMOUS=1.
EXPOSE 8000
CMD ["python", "-m", "producer_api"]
