"""Every error as JSON, on both ports, in the form of the dialect that was spoken."""

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from service.dialects.errors import form_of
from service.errors import OWN_FAULT, ClientGone, ServiceError, of_http

MESSAGES = {
    404: "there is nothing at {path}",
    405: "{path} doesn't answer {method}",
    500: OWN_FAULT,
}


class ClientClosedRequest(ServiceError):
    """The client closed its connection, or the half of it that sends: nginx's status, seen by the log and metrics.

    Only who closed no more than that half can read it.
    """

    status, code = 499, "client_gone"


def answer_errors_in_json(app: Flask) -> None:
    """Turn ServiceErrors and Flask's own errors into JSON."""
    app.register_error_handler(ServiceError, answer_error)
    app.register_error_handler(ClientGone, answer_who_left)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status, allowed = error.code or 500, getattr(error, "valid_methods", None)
        message = MESSAGES.get(status, error.description or error.name)
        message = message.format(path=request.path, method=request.method)
        response = answer_error(of_http(status, error.name, message))
        if allowed:
            response.headers["Allow"] = ", ".join(allowed)
        return response


def answer_error(error: ServiceError) -> Response:
    """Return the response for an error in the form of the path's dialect; note its code for the request's log line."""
    if "record" in g:
        g.record.error = error.code
    form = form_of(request.path)
    response = jsonify(form.body(error))
    response.status_code = form.status(error)
    response.headers.update(error.headers)
    return response


def answer_who_left(_gone: ClientGone) -> Response:
    """Return the response for a client that has closed its connection, should it still read."""
    message = "the client stopped sending, which counts as having left: keep the connection open both ways"
    return answer_error(ClientClosedRequest(message))
