"""What `/metrics` tells Prometheus: counts and times, and nothing of what was asked."""

from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from tpo_graph.agents.answers import usage_metadata
from tpo_graph.session.result import TPOResult

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class InFlight(Protocol):
    """What is being worked on."""

    running: int

    @property
    def waiting(self) -> int:
        """How much waits for its turn."""
        ...


class Metrics:
    """The counters of one server.

    Args:
        answers: read whenever somebody asks.
    """

    def __init__(self, answers: InFlight) -> None:
        self._registry = CollectorRegistry()
        self._answers = answers
        self._requests = Counter(
            "tpo_requests", "HTTP requests.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "tpo_request_seconds",
            "Seconds from a request to the end of its reply.",
            ["path"],
            buckets=(0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640),
            registry=self._registry,
        )
        self._runs = Counter(
            "tpo_runs", "Runs that ended, by stop reason.", ["reason"], registry=self._registry
        )
        self._tokens = Counter(
            "tpo_tokens", "Tokens of runs that ended.", ["kind"], registry=self._registry
        )
        self._gain = Histogram(
            "tpo_gain",
            "Reward of the answer minus that of the best first sample.",
            buckets=(0, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            registry=self._registry,
        )
        self._registry.register(self)  # pyright: ignore[reportArgumentType]

    def collect(self) -> Any:
        """The gauges, for prometheus-client."""
        running = GaugeMetricFamily("tpo_runs_in_flight", "Runs being worked on.")
        running.add_metric([], self._answers.running)
        waiting = GaugeMetricFamily("tpo_requests_waiting", "Requests that wait for a free place.")
        waiting.add_metric([], self._answers.waiting)
        return [running, waiting]

    def requested(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def ran(self, result: TPOResult) -> None:
        """Count one run that ended."""
        self._runs.labels(result.stop_reason).inc()
        if (spent := usage_metadata(result.usage)) is not None:
            self._tokens.labels("prompt").inc(spent["input_tokens"])
            self._tokens.labels("completion").inc(spent["output_tokens"])
        self._gain.observe(result.gain)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
