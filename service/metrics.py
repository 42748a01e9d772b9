"""The metrics on the private port. Their names are stable, because dashboards and the autoscaler use them."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.admission import Admission, Priority, Refusal
from service.model_watch import ModelWatch
from service.request_log import RequestLog

# From a cached prompt on a GPU to the longest wait allowed by the default settings.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
QUOTA = "quota"
MOST_KEYS = 100  # that have series of their own
OTHER_KEYS = "(other)"
CUTS = ("head_timeout", "body_timeout", "write_timeout", "memory", "lane", "connections", "descriptors")


class Metrics:
    """The service's instruments, in a registry of their own."""

    def __init__(self, admission: Admission, watch: ModelWatch) -> None:
        self.registry = registry = CollectorRegistry()
        gauge = Gauge("sluice_slots", "Requests that can generate at the same time", registry=registry)
        gauge.set(admission.slots)
        gauge = Gauge("sluice_requests_in_flight", "Requests that hold a slot", registry=registry)
        gauge.set_function(lambda: admission.in_flight)
        queued = Gauge("sluice_requests_queued", "Requests that wait for a slot", ["priority"], registry=registry)
        for priority in Priority:
            queued.labels(priority).set_function(partial(admission.queued, priority))
        gauge = Gauge("sluice_model_loaded", "1 while Ollama has the model in memory", registry=registry)
        gauge.set_function(lambda: watch.loaded)
        gauge = Gauge("sluice_model_load_seconds", "Seconds the last load of the model took", registry=registry)
        gauge.set_function(lambda: watch.load_seconds)
        self.responses = Counter(
            "sluice_responses", "Answers by route and status", ["route", "status"], registry=registry
        )
        self.admitted = Counter("sluice_requests_admitted", "Requests that got a slot", registry=registry)
        self.refused = Counter(
            "sluice_requests_refused", "Requests turned away, by reason", ["reason"], registry=registry
        )
        for reason in (*Refusal, QUOTA):
            self.refused.labels(reason)
        self.cut = Counter(
            "sluice_connections_cut",
            "Connections that were too slow or too many, by reason",
            ["reason"],
            registry=registry,
        )
        for reason in CUTS:
            self.cut.labels(reason)
        self.cancelled = Counter("sluice_requests_cancelled", "Requests whose client left", registry=registry)
        self.engine_deaths = Counter(
            "sluice_engine_deaths", "Times the engine died under requests, or was stuck", registry=registry
        )
        watch.on_restart = self.engine_deaths.inc
        self.sent_again = Counter(
            "sluice_requests_sent_again", "Requests sent again after the engine died under them", registry=registry
        )
        self.prompt_tokens = Counter("sluice_prompt_tokens", "Tokens read from prompts", registry=registry)
        self.completion_tokens = Counter("sluice_completion_tokens", "Tokens generated", registry=registry)
        self._key_names: set[str] = set()
        self._key_requests = Counter(
            "sluice_key_requests", "Answers to each key, by class of status", ["key", "status"], registry=registry
        )
        self._key_tokens = Counter(
            "sluice_key_tokens", "Tokens read and generated for each key", ["key", "type"], registry=registry
        )
        self.queue_wait = Histogram(
            "sluice_queue_wait_seconds", "From arrival to slot", buckets=SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "sluice_time_to_first_token_seconds", "From arrival to first token", buckets=SECONDS, registry=registry
        )
        self.inter_token = Histogram(
            "sluice_inter_token_latency_seconds",
            "Between one token and the next",
            buckets=TOKEN_SECONDS,
            registry=registry,
        )

    def count(self, record: RequestLog) -> None:
        """Count an answer for its key, if it has one; keys beyond MOST_KEYS share a series."""
        if record.key is None:
            return
        if len(self._key_names) < MOST_KEYS:
            self._key_names.add(record.key)
        key = record.key if record.key in self._key_names else OTHER_KEYS
        self._key_requests.labels(key, f"{record.status // 100}xx").inc()
        self._key_tokens.labels(key, "prompt").inc(record.prompt_tokens or 0)
        self._key_tokens.labels(key, "completion").inc(record.completion_tokens or 0)
