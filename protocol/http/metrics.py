"""What the server does, in the format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from protocol.http.admission import AdmissionControl
from protocol.http.service import ReasoningResult, Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self, service: Service, admission: AdmissionControl) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"reason_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, read: Callable[[], float]) -> None:
            Gauge(f"reason_{name}", text, registry=registry).set_function(read)

        self.requests = counter("requests", "Requests, by status.", "endpoint", "status")
        self.disconnected = counter(
            "disconnected", "Requests whose client left before the end.", "endpoint"
        )
        self._tokens = counter("tokens", "Tokens of every branch, by kind.", "variant", "kind")
        self._answers = counter(
            "answers", "Runs that ended, by what the verifier said.", "variant", "verdict"
        )
        self._branches = counter("branches", "Branches that were opened.", "variant")
        self._seconds = Histogram(
            "reason_run_seconds",
            "How long runs took.",
            ["variant"],
            buckets=_SECONDS,
            registry=registry,
        )
        gauge("runs", "Runs at this moment.", lambda: admission.running)
        gauge("runs_waiting", "Requests that wait for a place.", lambda: admission.waiting)
        gauge("engine_threads", "Threads that generate or wait.", lambda: service.load.threads)
        gauge(
            "engine_leaked_tokens",
            "Tokens generated for threads after they were closed.",
            lambda: service.load.leaked,
        )

    @contextmanager
    def timed(self, variant: str) -> Iterator[Callable[[ReasoningResult], None]]:
        """Time a run; the block calls what it gets with the result, to have it counted."""
        variant = variant.partition(":")[0]  # without n, of which there are many
        started = time.monotonic()

        def account(result: ReasoningResult) -> None:
            verdict = {True: "verified", False: "rejected", None: "unverified"}[result.verified]
            self._answers.labels(variant, "none" if result.text is None else verdict).inc()
            self._tokens.labels(variant, "prompt").inc(result.prompt_tokens)
            self._tokens.labels(variant, "completion").inc(result.completion_tokens)
            self._branches.labels(variant).inc(result.branches)

        try:
            yield account
        finally:
            self._seconds.labels(variant).observe(time.monotonic() - started)

    def text(self) -> bytes:
        """All figures, as ``/metrics`` gives them."""
        return generate_latest(self._registry)
