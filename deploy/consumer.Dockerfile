# One consumer process of one model.
#   docker build -f deploy/consumer.Dockerfile -t headrace-consumer .
# --build-arg TORCH_INDEX_URL=... takes torch and torchvision from another index, such as the one of the CPU builds,
# which makes a much smaller image. Every package has the hash that locks/ names, except what comes from that index.
# --build-arg PYTHON_IMAGE=python@sha256:... builds on exactly that image, as a release does.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS requirements
COPY deploy/locked.py deploy/
COPY locks/ locks/
# --build-arg EXTRA_GROUP=tracing adds what HEADRACE_TRACING=otlp needs, and text what texts and language models need;
# several are separated by spaces.
ARG EXTRA_GROUP=
ARG TORCH_INDEX_URL=
RUN python deploy/locked.py pip > /pip.txt \
    && python deploy/locked.py consumer torch openvino $EXTRA_GROUP ${TORCH_INDEX_URL:+--without-torch} > /requirements.txt

FROM ${PYTHON_IMAGE}
# The packages are one early layer of several GB: a change of code leaves it alone. pip itself is not shipped.
WORKDIR /build
COPY constraints.txt ./
COPY --from=requirements /pip.txt /requirements.txt ./
ARG TORCH_INDEX_URL=
RUN python -m venv /pip && /pip/bin/pip install --no-cache-dir --no-deps --require-hashes -r pip.txt \
    && python -m venv --without-pip /venv \
    && /pip/bin/pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements.txt \
    && if [ -n "$TORCH_INDEX_URL" ]; then \
         /pip/bin/pip --python /venv/bin/python install --no-cache-dir -c constraints.txt \
             --index-url "$TORCH_INDEX_URL" torch torchvision; \
       fi \
    && rm -rf /pip

RUN useradd --system --uid 10001 --home-dir /home/headrace --create-home --shell /usr/sbin/nologin headrace \
    && install -d -o headrace -g headrace /home/headrace/.cache \
    && install -d -o headrace -g headrace -m 0700 /results
WORKDIR /app
COPY shared/ shared/
COPY consumer/ consumer/
# For its health check, python -m headrace probe consumer, and for python -m headrace tune
COPY headrace/ headrace/
COPY models.toml ./
# Compile now: the running user may not write here, so each start would compile everything again. The base image
# has no compiled files.
RUN python -m compileall -qq -x '/(test|tests|idlelib|lib2to3|site-packages|dist-packages)/' \
    "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" /app
# A container holds one consumer, and `python -m headrace tune MODEL` in it finds what suits that one.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_METRICS_HOST=0.0.0.0 HEADRACE_DATA_DIR=/home/headrace/.cache/headrace HEADRACE_CONSUMERS=1
USER headrace
EXPOSE 9101
# What follows COPY my_model.py ./ in an image FROM this one: CMD ["--model", "my_model.py:Flowers"] (docs/compose.md).
ENTRYPOINT ["python", "-m", "consumer"]
CMD ["--model", "imagenet"]
