"""The gateway: an LLM behind HTTP that answers every request, or says at once when to come back."""

import os
import re
import uuid
from functools import partial
from pathlib import Path

from flask import Flask, Response, g, request

from service import tracing
from service.admission import Admission
from service.back import back_blueprint
from service.browsers import check_host, check_origin, require_https
from service.dialects.anthropic_messages import messages_blueprint
from service.dialects.errors import form_of
from service.dialects.generate import generate_blueprint
from service.dialects.ollama_chat import ollama_chat_blueprint
from service.dialects.ollama_embed import ollama_embed_blueprint
from service.dialects.ollama_models import ollama_models_blueprint
from service.dialects.openai_chat import chat_blueprint
from service.dialects.openai_completions import completions_blueprint
from service.dialects.openai_embeddings import embeddings_blueprint
from service.dialects.openai_models import models_blueprint
from service.dialects.openai_responses import responses_blueprint
from service.error_handlers import answer_errors_in_json
from service.front import Pods, PodsWatch
from service.gateway import Gateway
from service.keys import Keys
from service.metrics import Metrics, ModelMetrics
from service.model_watch import ModelWatch
from service.models import Models
from service.ollama import Ollama
from service.openapi import openapi_blueprint
from service.page import page_blueprint
from service.request_log import RequestLog
from service.settings import Role, Settings
from service.suspects import Suspects
from service.tracing import Tracing

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def create_app(settings: Settings) -> Flask:
    """Return the public WSGI app; whoever serves it finds its Models in `app.extensions["sluice"]`."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]  # keeps the answer in front of the figures
    models = create_models(settings)
    keys = None
    if settings.api_keys_file:
        keys = Keys(Path(settings.api_keys_file), settings.names, shares=settings.quota_shares)
    answer_errors_in_json(app, pointing=settings.role is not Role.BACK)
    _keep_records(app, models, tracing.start(os.environ))  # before the checks, so that refusals are logged too
    if settings.role is Role.BACK:
        app.register_blueprint(back_blueprint(models.default))
    else:
        _add_public(app, models, keys)
    app.extensions["sluice"] = models
    return app


def create_models(settings: Settings) -> Models:
    """Return the parts that requests pass; no thread is started and nothing is connected."""
    metrics, gateways = Metrics(), list[Gateway]()
    shares_ollama = settings.role is Role.ALL and len(settings.names.models) > 1
    everybody = Suspects(heard=lambda: max(each.ollama.pool.heard for each in gateways)) if shares_ollama else None
    gateways += (_create_gateway(each, metrics, everybody) for each in settings.each_model())
    return Models(settings, tuple(gateways), metrics)


def _create_gateway(settings: Settings, metrics: Metrics, everybody: Suspects | None) -> Gateway:
    ollama: Ollama
    watch: ModelWatch
    suspects = Suspects(heard=lambda: ollama.pool.heard)
    if settings.role is Role.FRONT:
        ollama = Pods(settings)
        watch = PodsWatch(ollama, suspects)
        admission = Admission(slots=settings.max_in_flight, max_queue=0, max_wait=settings.queue_timeout, undivided=0)
    else:
        ollama = Ollama(settings)
        watch = ModelWatch(ollama, suspects, slots=settings.slots, timeout=settings.generation_timeout)
        admission = Admission(slots=settings.slots, max_queue=settings.max_queue, max_wait=settings.queue_timeout)
    of_model = ModelMetrics(metrics, settings.model, admission, watch)
    return Gateway(settings, admission, ollama, watch, of_model, suspects, everybody)


def _add_public(app: Flask, models: Models, keys: Keys | None) -> None:
    """Add the page and the API, and check who asks; a back needs neither, since only fronts reach it."""
    settings = models.settings
    check_host(app, settings.host, settings)
    check_origin(app, keys, settings)
    require_https(app, settings)
    app.register_blueprint(page_blueprint(models))
    app.register_blueprint(generate_blueprint(models, keys))
    app.register_blueprint(chat_blueprint(models, keys))
    app.register_blueprint(completions_blueprint(models, keys))
    app.register_blueprint(responses_blueprint(models, keys))
    app.register_blueprint(embeddings_blueprint(models, keys))
    app.register_blueprint(models_blueprint(models, keys))
    app.register_blueprint(ollama_chat_blueprint(models, keys))
    app.register_blueprint(ollama_embed_blueprint(models, keys))
    app.register_blueprint(ollama_models_blueprint(models, keys))
    app.register_blueprint(messages_blueprint(models, keys))
    app.register_blueprint(openapi_blueprint(models))


def _keep_records(app: Flask, models: Models, traces: Tracing | None) -> None:
    """Give every request an id, and write its log line and spans once its last byte has been sent."""
    metrics, release = models.metrics, models.settings.release

    @app.before_request
    def begin() -> None:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        g.record = RequestLog(request_id, request.method, request.path)
        g.span = traces.begin(g.record, dict(request.headers)) if traces else None

    @app.after_request
    def end(response: Response) -> Response:
        record: RequestLog = g.record
        record.status = response.status_code
        response.headers.update(form_of(record.path).id_headers(record.request_id))
        response.headers.update(record.release_header(release))
        route = request.url_rule.rule if request.url_rule else "none"
        metrics.responses.labels(route, record.status).inc()
        response.call_on_close(record.write)
        response.call_on_close(partial(metrics.count, record))
        if traces:
            response.call_on_close(partial(traces.end, g.span, record, route))
        return response
