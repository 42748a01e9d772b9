"""The Grafana dashboard: answers, waiting times and load."""

import json
from typing import Any

from cdk8s_manifests.names import PODS, PROXIES

RATE = "[$__rate_interval]"
# Fronts and gateways export the same metrics: the fronts' say what callers see, the gateways' what is generated.
OF_FRONTS, OF_PODS = f'{{service="{PROXIES}"}}', f'{{service="{PODS}"}}'


def _quantile(share: int, histogram: str, of: str) -> str:
    return f"histogram_quantile(0.{share}, sum by (le) (rate({histogram}_bucket{of}{RATE})))"


WIDTH, HEIGHT = 8, 7
PANELS: dict[str, tuple[str, dict[str, str]]] = {  # title: unit, legend: query
    "Requests waiting and served": (
        "short",
        {
            "waiting": 'sum(haproxy_backend_current_queue{proxy="generate"})',
            "served": f"sum(sluice_requests_in_flight{OF_PODS})",
            "slots": f"sum(sluice_slots{OF_PODS})",
        },
    ),
    "Answers by status": ("reqps", {"{{status}}": f"sum by (status) (rate(sluice_responses_total{OF_FRONTS}{RATE}))"}),
    "Refused": (
        "reqps",
        {
            "{{service}}: {{reason}}": f"sum by (service, reason) (rate(sluice_requests_refused_total{RATE}))",
            "HAProxy: {{code}}": "sum by (code) (rate(haproxy_backend_http_responses_total"
            f'{{code="5xx",proxy="generate"}}{RATE}))',
        },
    ),
    "Time to first token": (
        "s",
        {f"p{share}": _quantile(share, "sluice_time_to_first_token_seconds", OF_FRONTS) for share in (50, 95, 99)},
    ),
    "Between two tokens": (
        "s",
        {f"p{share}": _quantile(share, "sluice_inter_token_latency_seconds", OF_FRONTS) for share in (50, 95)},
    ),
    "Wait in the queue": (
        "s",
        {
            "HAProxy, average of the last 1024": 'max(haproxy_backend_queue_time_average_seconds{proxy="generate"})',
            "pod, p95": _quantile(95, "sluice_queue_wait_seconds", OF_PODS),
        },
    ),
    "Tokens": (
        "short",
        {
            "generated a second": f"sum(rate(sluice_completion_tokens_total{OF_PODS}{RATE}))",
            "read a second": f"sum(rate(sluice_prompt_tokens_total{OF_PODS}{RATE}))",
        },
    ),
    "Pods with the model loaded": (
        "short",
        {"loaded": f"sum(sluice_model_loaded{OF_PODS})", "all": f"count(sluice_model_loaded{OF_PODS})"},
    ),
    "Requests whose client left": ("reqps", {"left": f"sum(rate(sluice_requests_cancelled_total{OF_FRONTS}{RATE}))"}),
}


def dashboard() -> str:
    """Return the dashboard's JSON."""
    panels = [_panel(index, title, *PANELS[title]) for index, title in enumerate(PANELS)]
    source = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    model = {
        "uid": "sluice",
        "title": "Sluice",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(model, indent=1)


def _panel(index: int, title: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    row, column = divmod(index, 3)
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(queries.items())
        ],
    }
