"""Every error as JSON, on both ports, in the form of the request's dialect."""

from functools import cache

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from service.complaints import shown
from service.dialects.errors import OURS, Form, form_of
from service.errors import OWN_FAULT, ClientClosedRequest, ClientGone, ServiceError, of_http
from service.pointers import NOT_KEPT, ON_PRIVATE_PORT, PRIVATE, Pointer, meant, not_kept, pointers

MESSAGES = {
    404: "there is nothing at {path}",
    405: "{path} doesn't answer {method}",
    500: OWN_FAULT,
}


def answer_errors_in_json(app: Flask, *, pointing: bool = False) -> None:
    """Turn ServiceErrors and Flask's own errors into JSON. pointing: have a 404 or 405 suggest the intended route."""
    app.register_error_handler(ServiceError, answer_error)
    app.register_error_handler(ClientGone, answer_who_left)

    @cache
    def known() -> tuple[Pointer, ...]:
        return pointers(app.url_map) if pointing else ()

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status, allowed = error.code or 500, getattr(error, "valid_methods", None)
        message = MESSAGES.get(status, error.description or error.name)
        message = message.format(path=shown(request.path), method=shown(request.method))
        told = of_http(status, error.name, message)
        form = point(told, known()) if status in (404, 405) else None
        response = answer_error(told, form)
        if allowed:
            response.headers["Allow"] = ", ".join(allowed)
        return response


def point(error: ServiceError, known: tuple[Pointer, ...]) -> Form | None:
    """Hint at the `known` route that was probably intended; return its form of errors if the path has none."""
    if known and not_kept(request.method, request.path):
        error.hint = NOT_KEPT
    elif known and request.path in PRIVATE:
        error.hint = ON_PRIVATE_PORT
    elif found := meant(request.method, request.path, known):
        error.hint = found.hint
        return form_of(found.path) if form_of(request.path) is OURS else None
    return None


def answer_error(error: ServiceError, form: Form | None = None) -> Response:
    """Return the response for an error in the form of the path's dialect; note its code for the log line."""
    form, request_id = form or form_of(request.path), ""
    if "record" in g:
        g.record.error, request_id = error.code, g.record.request_id
    response = jsonify(form.told(error, request_id))
    response.status_code = form.status(error)
    response.headers.update(error.headers)
    return response


def answer_who_left(_gone: ClientGone) -> Response:
    """Return the response for a client that has closed its connection, in case it still reads."""
    return answer_error(ClientClosedRequest())
