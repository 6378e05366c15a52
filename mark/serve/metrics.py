"""What /metrics tells Prometheus. No label holds text of a client."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mark.pipeline.answer import Answer
from mark.pipeline.usage import Usage

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter("mark_requests", "HTTP requests", ["route", "status"], registry=r)
        self.steps = Histogram(
            "mark_step_seconds", "Seconds of a step of an answer", ["step"], buckets=_SECONDS, registry=r
        )
        self.tokens = Counter("mark_tokens", "Tokens read and written", ["kind"], registry=r)
        self.queue = Gauge("mark_queue_length", "Questions that wait", registry=r)
        self.batches = Histogram("mark_batch_size", "Questions of a batch", buckets=_BATCHES, registry=r)
        self.answers = Counter("mark_answers", "Answers", ["model"], registry=r)
        self.refusals = Counter("mark_refusals", "Answers that are refusals", registry=r)
        self.unsupported = Counter("mark_unsupported", "Answers not all in the documents", registry=r)
        self.dropped = Counter("mark_dropped", "Questions that nobody waited for any more", registry=r)
        self.feedback = Counter("mark_feedback", "Feedback that was taken", registry=r)

    def answered(self, answer: Answer, usage: Usage, queue_s: float) -> None:
        """Count one answer."""
        self.answers.labels(answer.model).inc()
        self.refusals.inc(int(answer.refused))
        self.unsupported.inc(int(not answer.refused and not answer.supported))
        self.tokens.labels("prompt").inc(usage.prompt_tokens)
        self.tokens.labels("completion").inc(usage.completion_tokens)
        self.steps.labels("queue").observe(queue_s)
        for step, seconds in answer.seconds.model_dump().items():
            self.steps.labels(step).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
