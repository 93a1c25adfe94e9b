# `reason serve` on a CPU: with the shipped model, or in front of a server (--base-url).
#   docker build -t reason .
#   docker run --rm -p 8000:8000 -v "$PWD/keys:/keys:ro" reason --api-key-file /keys/keys.txt
FROM python:3.12-slim

# The engine's step is compiled for the model's shapes at its first start.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY orchestrator orchestrator
COPY pruning pruning
COPY protocol protocol
COPY reasoning reasoning
# Where pip's usual torch brings the libraries of a GPU: --build-arg PIP_EXTRA_INDEX_URL=URL of an
# index that has torch for CPUs alone, and its version ends in +cpu.
ARG PIP_EXTRA_INDEX_URL=
RUN pip install --no-cache-dir '.[local,server,serve]' && rm -rf /src/*

RUN useradd --create-home reason
USER reason
WORKDIR /home/reason

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["reason", "serve", "--host", "0.0.0.0", "--port", "8000"]
