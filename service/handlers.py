"""Every error as JSON, on both ports."""

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from service.errors import ServiceError

MESSAGES = {
    404: "there is nothing at {path}",
    405: "{path} doesn't answer {method}",
    500: "an error of the server's own",
}


def answer_errors_in_json(app: Flask) -> None:
    """Turn ServiceErrors and Flask's own errors into `{"error": {"code", "message", "hint"}}`."""
    app.register_error_handler(ServiceError, answer_error)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        status, allowed = error.code or 500, getattr(error, "valid_methods", None)
        message = MESSAGES.get(status, error.description or error.name)
        wrapped = ServiceError(message.format(path=request.path, method=request.method))
        wrapped.status, wrapped.code = status, error.name.lower().replace(" ", "_")
        response = answer_error(wrapped)
        if allowed:
            response.headers["Allow"] = ", ".join(allowed)
        return response


def answer_error(error: ServiceError) -> Response:
    """Return the response for an error, and note its code for the request's log line."""
    if "record" in g:
        g.record.error = error.code
    response = jsonify(error.body())
    response.status_code = error.status
    response.headers.update(error.headers)
    return response
