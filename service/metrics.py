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
    """The service's instruments, in a registry of their own; those in ModelMetrics have a label `model`."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.of_models = _Instruments(registry)
        self.responses = Counter(
            "sluice_responses", "Answers by route and status", ["route", "status"], registry=registry
        )
        self.cut = Counter(
            "sluice_connections_cut",
            "Connections that were too slow or too many, by reason",
            ["reason"],
            registry=registry,
        )
        for reason in CUTS:
            self.cut.labels(reason)
        self.cancelled = Counter("sluice_requests_cancelled", "Requests whose client left", registry=registry)
        self._key_names: set[str] = set()
        self._key_requests = Counter(
            "sluice_key_requests", "Answers to each key, by class of status", ["key", "status"], registry=registry
        )
        self._key_tokens = Counter(
            "sluice_key_tokens", "Tokens read and generated for each key", ["key", "type"], registry=registry
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


class _Instruments:
    """The instruments that have the name of a model as their first label."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, doc: str, *labels: str) -> Gauge:
            return Gauge(name, doc, ["model", *labels], registry=registry)

        def counter(name: str, doc: str, *labels: str) -> Counter:
            return Counter(name, doc, ["model", *labels], registry=registry)

        def histogram(name: str, doc: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(name, doc, ["model"], buckets=buckets, registry=registry)

        self.slots = gauge("sluice_slots", "Requests that can generate at the same time")
        self.in_flight = gauge("sluice_requests_in_flight", "Requests that hold a slot")
        self.queued = gauge("sluice_requests_queued", "Requests that wait for a slot", "priority")
        self.loaded = gauge("sluice_model_loaded", "1 while Ollama has the model in memory")
        self.load_seconds = gauge("sluice_model_load_seconds", "Seconds the last load of the model took")
        self.admitted = counter("sluice_requests_admitted", "Requests that got a slot")
        self.refused = counter("sluice_requests_refused", "Requests turned away, by reason", "reason")
        self.engine_deaths = counter("sluice_engine_deaths", "Times the engine died under requests, or was stuck")
        self.sent_again = counter("sluice_requests_sent_again", "Requests sent again after the engine died under them")
        self.prompt_tokens = counter("sluice_prompt_tokens", "Tokens read from prompts")
        self.completion_tokens = counter("sluice_completion_tokens", "Tokens generated")
        self.queue_wait = histogram("sluice_queue_wait_seconds", "From arrival to slot")
        self.first_token = histogram("sluice_time_to_first_token_seconds", "From arrival to first token")
        self.inter_token = histogram(
            "sluice_inter_token_latency_seconds", "Between one token and the next", TOKEN_SECONDS
        )


class ModelMetrics:
    """The instruments of one model."""

    def __init__(self, metrics: Metrics, model: str, admission: Admission, watch: ModelWatch) -> None:
        all_models = metrics.of_models
        all_models.slots.labels(model).set(admission.slots)
        all_models.in_flight.labels(model).set_function(lambda: admission.in_flight)
        for priority in Priority:
            all_models.queued.labels(model, priority).set_function(partial(admission.queued, priority))
        all_models.loaded.labels(model).set_function(lambda: watch.loaded)
        all_models.load_seconds.labels(model).set_function(lambda: watch.load_seconds)
        self.admitted = all_models.admitted.labels(model)
        self.refused = {reason: all_models.refused.labels(model, reason) for reason in (*Refusal, QUOTA)}
        self.cancelled = metrics.cancelled
        self.engine_deaths = all_models.engine_deaths.labels(model)
        watch.on_restart = self.engine_deaths.inc
        self.sent_again = all_models.sent_again.labels(model)
        self.prompt_tokens = all_models.prompt_tokens.labels(model)
        self.completion_tokens = all_models.completion_tokens.labels(model)
        self.queue_wait = all_models.queue_wait.labels(model)
        self.first_token = all_models.first_token.labels(model)
        self.inter_token = all_models.inter_token.labels(model)
