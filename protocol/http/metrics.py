"""What the server does, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from protocol.http.admission import AdmissionControl
from protocol.http.contract.results import ReasoningResult
from protocol.http.service import RunPlan, Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128)
_RUN = ("variant", "model", "strategy")


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self, service: Service, admission: AdmissionControl) -> None:
        self._registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"reason_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"reason_{name}", text, _RUN, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, read: Callable[[], float]) -> None:
            Gauge(f"reason_{name}", text, registry=registry).set_function(read)

        self.requests = counter("requests", "Requests, by status.", "endpoint", "status")
        self.disconnected = counter(
            "disconnected", "Requests whose client left before the end.", "endpoint"
        )
        self._tokens = counter(
            "tokens", "Tokens of every branch, of clients that left too, by kind.", *_RUN, "kind"
        )
        self._saved = counter("saved_tokens", "Tokens that early stops saved, estimated.", *_RUN)
        self._leaked = counter("leaked_tokens", "Tokens generated after a branch's stop.", *_RUN)
        self._answers = counter(
            "answers", "Runs that ended, by what the verifier said.", *_RUN, "verdict"
        )
        self._abandoned = counter("abandoned", "Runs whose client left.", *_RUN)
        self._branches = counter("branches", "Branches that were opened.", *_RUN)
        self._stops = counter("early_stops", "Runs that were settled before all samples.", *_RUN)
        self._shrunk = counter("shrunk", "Runs that got fewer branches than they wanted.", *_RUN)
        self._width = histogram("width", "Branches that a run was given.", _WIDTHS)
        self._seconds = histogram("run_seconds", "How long runs took.")
        self._queued = histogram("queue_seconds", "How long admitted requests waited.")
        self._first = histogram("first_token_seconds", "From a run's start to its first token.")
        self._settled = histogram("settled_seconds", "From a run's start to the answer's choice.")
        gauge("runs", "Runs at this moment.", lambda: admission.running)
        gauge("runs_waiting", "Requests that wait for a place.", lambda: admission.waiting)
        gauge("branches_admitted", "Branches that runs may have.", lambda: admission.branches)
        gauge("engine_threads", "Threads that generate or wait.", lambda: service.load.threads)
        gauge(
            "engine_leaked_tokens",
            "Tokens generated for threads after they were closed.",
            lambda: service.load.leaked,
        )

    def account(
        self,
        variant: str,
        plan: RunPlan,
        result: ReasoningResult,
        *,
        abandoned: bool = False,
        **seconds: float | None,
    ) -> None:
        """Count a run that was admitted.

        ``seconds`` are ``run``, ``queued``, ``first`` and ``settled``, as far as there are any.
        """
        labels = (variant, plan.model, result.strategy)
        if abandoned:
            self._abandoned.labels(*labels).inc()
        else:
            verdict = {True: "verified", False: "rejected", None: "unverified"}[result.verified]
            said = result.text or result.best.calls
            self._answers.labels(*labels, verdict if said else "none").inc()
        self._tokens.labels(*labels, "prompt").inc(result.billed_tokens)
        self._tokens.labels(*labels, "completion").inc(result.completion_tokens)
        self._tokens.labels(*labels, "cached").inc(result.cached_tokens)
        self._saved.labels(*labels).inc(result.saved_tokens)
        self._leaked.labels(*labels).inc(result.leaked_tokens)
        self._branches.labels(*labels).inc(result.branches)
        self._stops.labels(*labels).inc(result.saved_tokens > 0)
        self._shrunk.labels(*labels).inc(result.width < plan.width)
        self._width.labels(*labels).observe(result.width)
        for name, value in seconds.items():
            if value is not None:
                self._timers[name].labels(*labels).observe(value)

    @property
    def _timers(self) -> dict[str, Histogram]:
        return {
            "run": self._seconds,
            "queued": self._queued,
            "first": self._first,
            "settled": self._settled,
        }

    def text(self) -> bytes:
        """All figures, as ``/metrics`` gives them."""
        return generate_latest(self._registry)
