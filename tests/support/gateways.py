"""Requests to a gateway in this process, and what it has in its books after them."""

from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from service.gateway import Gateway


def generate(client: FlaskClient, **body: Any) -> Any:
    return client.post("/generate", json={"prompt": "x", **body}, buffered=True)


def books(app: Flask) -> tuple[int, int]:
    gateway: Gateway = app.extensions["sluice"].default
    return gateway.admission.in_flight, gateway.admission.queued()
