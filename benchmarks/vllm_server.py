"""vLLM's own OpenAI-compatible server with the shipped model, for benchmarks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from reasoning.models.catalog import find


def generated(url: str) -> int:
    """Tokens that a server says it has generated."""
    page = urllib.request.urlopen(url.replace("/v1", "/metrics")).read().decode()
    found = re.findall(r"^vllm:generation_tokens_total\{[^}]*\} (\S+)", page, re.M)
    return round(sum(map(float, found)))


@contextmanager
def server(port: int, threads: int) -> Iterator[str]:
    """vLLM's own server with the shipped model, while the block runs."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(find("reason-5m")), "--served-model-name", "reason-5m"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--enforce-eager", "--block-size", "32", "--max-model-len", "1024"]
    command += ["--max-num-seqs", str(threads), "--enable-prompt-tokens-details"]
    command += ["--disable-uvicorn-access-log"]
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1"}
    process = subprocess.Popen(command, env={**os.environ, **quiet}, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(300):
            time.sleep(1)
            if process.poll() is not None:
                sys.exit("the server did not start")
            try:
                urllib.request.urlopen(f"{url}/models")
            except OSError:
                continue
            break
        yield url
    finally:
        process.terminate()
        process.wait(60)
