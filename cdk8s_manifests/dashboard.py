"""The Grafana dashboard: answers, waiting times and load, of all models or of those that are chosen."""

import json
from typing import Any

from cdk8s_manifests.names import PODS, PROXIES, QUEUE

RATE = "[$__rate_interval]"
# Fronts and gateways export the same metrics: the fronts' say what callers see, the gateways' what is generated.
FRONTS, GATEWAYS = f'service="{PROXIES}"', f'service=~"{PODS}(-.*)?"'
# What is about a model has its name as a label. HAProxy has a queue for each, which is named after it.
CHOSEN = 'model=~"$model"'
OF_FRONTS, OF_GATEWAYS = f"{{{FRONTS},{CHOSEN}}}", f"{{{GATEWAYS},{CHOSEN}}}"
QUEUES = f'proxy=~"{QUEUE}(-.*)?"'


def _by_model(metric: str, of: str, way: str = "sum") -> str:
    return f"{way} by (model) ({metric}{of})"


def _rate(counter: str, of: str, by: str = "model") -> str:
    return f"sum by ({by}) (rate({counter}{of}{RATE}))"


def _quantiles(histogram: str, of: str, *shares: int) -> dict[str, str]:
    buckets = _rate(f"{histogram}_bucket", of, "le, model")
    return {f"{{{{model}}}} p{share}": f"histogram_quantile(0.{share}, {buckets})" for share in shares}


WIDTH, HEIGHT = 8, 7
PANELS: dict[str, tuple[str, dict[str, str]]] = {  # title: unit, legend: query
    "Requests waiting and served": (
        "short",
        {
            "waiting: {{proxy}}": f"sum by (proxy) (haproxy_backend_current_queue{{{QUEUES}}})",
            "served: {{model}}": _by_model("sluice_requests_in_flight", OF_GATEWAYS),
            "slots: {{model}}": _by_model("sluice_slots", OF_GATEWAYS),
        },
    ),
    "Answers by status": ("reqps", {"{{status}}": _rate("sluice_responses_total", f"{{{FRONTS}}}", "status")}),
    "Refused": (
        "reqps",
        {
            "{{service}} {{model}}: {{reason}}": _rate(
                "sluice_requests_refused_total", f"{{{CHOSEN}}}", "service, model, reason"
            ),
            "HAProxy {{proxy}}: {{code}}": _rate(
                "haproxy_backend_http_responses_total", f'{{code="5xx",{QUEUES}}}', "proxy, code"
            ),
        },
    ),
    "Time to first token": ("s", _quantiles("sluice_time_to_first_token_seconds", OF_FRONTS, 50, 95, 99)),
    "Between two tokens": ("s", _quantiles("sluice_inter_token_latency_seconds", OF_FRONTS, 50, 95)),
    "Wait in the queue": (
        "s",
        {
            "HAProxy {{proxy}}, average of the last 1024": (
                f"max by (proxy) (haproxy_backend_queue_time_average_seconds{{{QUEUES}}})"
            ),
            **{
                f"pod {name}": query for name, query in _quantiles("sluice_queue_wait_seconds", OF_GATEWAYS, 95).items()
            },
        },
    ),
    "Tokens": (
        "short",
        {
            "{{model}} generated a second": _rate("sluice_completion_tokens_total", OF_GATEWAYS),
            "{{model}} read a second": _rate("sluice_prompt_tokens_total", OF_GATEWAYS),
        },
    ),
    "Pods with their model loaded": (
        "short",
        {
            "{{model}} loaded": _by_model("sluice_model_loaded", OF_GATEWAYS),
            "{{model}} all": _by_model("sluice_model_loaded", OF_GATEWAYS, "count"),
        },
    ),
    "Requests whose client left": ("reqps", {"left": f"sum(rate(sluice_requests_cancelled_total{{{FRONTS}}}{RATE}))"}),
}
SOURCE = {"type": "prometheus", "uid": "${source}"}
VARIABLES: list[dict[str, Any]] = [
    {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
    {
        "name": "model",
        "type": "query",
        "label": "Model",
        "datasource": SOURCE,
        "query": "label_values(sluice_slots, model)",
        "refresh": 2,  # when the time range changes: models come and go
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    },
]


def dashboard() -> str:
    """Return the dashboard's JSON."""
    panels = [_panel(index, title, *PANELS[title]) for index, title in enumerate(PANELS)]
    model = {
        "uid": "sluice",
        "title": "Sluice",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": VARIABLES},
        "panels": panels,
    }
    return json.dumps(model, indent=1)


def _panel(index: int, title: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    row, column = divmod(index, 3)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(queries.items())
        ],
    }
