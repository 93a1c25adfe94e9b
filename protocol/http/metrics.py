"""What the server does, in Prometheus' format."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from protocol.http.admission import Gate
from protocol.http.service import Answer, Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self, service: Service, gate: Gate) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "reason_requests", "Requests, by status.", ["endpoint", "status"], registry=registry
        )
        self.disconnected = Counter(
            "reason_disconnected",
            "Requests whose client left before the end.",
            ["endpoint"],
            registry=registry,
        )
        self.tokens = Counter(
            "reason_tokens",
            "Tokens of every branch: given (prompt) and generated (completion).",
            ["variant", "kind"],
            registry=registry,
        )
        self.answers = Counter(
            "reason_answers",
            "Runs that ended, by what the verifier said.",
            ["variant", "verdict"],
            registry=registry,
        )
        self.branches = Counter(
            "reason_branches", "Branches that were opened.", ["variant"], registry=registry
        )
        self.seconds = Histogram(
            "reason_run_seconds",
            "How long runs took.",
            ["variant"],
            buckets=_SECONDS,
            registry=registry,
        )
        for name, text, read in (
            ("reason_runs", "Runs at this moment.", lambda: gate.running),
            ("reason_runs_waiting", "Requests that wait for a place.", lambda: gate.waiting),
            (
                "reason_engine_threads",
                "Threads that generate or wait for a slot of the engine.",
                lambda: service.load.threads,
            ),
            (
                "reason_engine_leaked_tokens",
                "Tokens generated for threads after they were closed.",
                lambda: service.load.leaked,
            ),
        ):
            Gauge(name, text, registry=registry).set_function(read)

    @contextmanager
    def request(self, endpoint: str) -> Iterator[Callable[[int], None]]:
        """Count a request, with the status that it is told; 499 if it was abandoned."""
        status = 499

        def outcome(code: int) -> None:
            nonlocal status
            status = code

        try:
            yield outcome
            status = 200 if status == 499 else status
        finally:
            self.requests.labels(endpoint, status).inc()

    @contextmanager
    def run(self, variant: str) -> Iterator[Callable[[Answer], None]]:
        """Time a run, and account for its answer."""
        variant = variant.partition(":")[0]  # without n, of which there are many
        started = time.monotonic()

        def account(answer: Answer) -> None:
            verdict = {True: "verified", False: "rejected", None: "unverified"}[answer.verified]
            self.answers.labels(variant, "none" if answer.text is None else verdict).inc()
            self.tokens.labels(variant, "prompt").inc(answer.prompt_tokens)
            self.tokens.labels(variant, "completion").inc(answer.completion_tokens)
            self.branches.labels(variant).inc(answer.branches)

        try:
            yield account
        finally:
            self.seconds.labels(variant).observe(time.monotonic() - started)

    def text(self) -> bytes:
        return generate_latest(self._registry)
