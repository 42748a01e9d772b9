"""The web page at `/`: one HTML file that uses this server's API and nothing else."""

import secrets
from typing import Any

from flask import Blueprint, Response, make_response, render_template

from service.models import Models
from service.ollama import CHATS, SEES

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'nonce-{nonce}'",
        "style-src 'nonce-{nonce}'",
        "connect-src 'self'",
        "img-src 'self' blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)


def page_blueprint(models: Models) -> Blueprint:
    """Return the route `GET /`."""
    page = Blueprint("page", __name__, template_folder="templates")

    @page.get("/")
    def index() -> Response:
        """Render the page with a nonce of its own."""
        nonce = secrets.token_urlsafe(16)
        response = make_response(render_template("page.html", nonce=nonce, page=config(models)))
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.format(nonce=nonce)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    return page


def config(models: Models) -> dict[str, Any]:
    """Return what the page knows of the server. blind, mute: the models that can't see images, and that can't chat."""
    settings, known = models.settings, {each.settings.model: each.watch.capabilities for each in models.gateways}
    blind = [model for model, capabilities in known.items() if SEES not in capabilities]
    return {
        "model": models.default.settings.model,
        "vision": len(blind) < len(known) and settings.max_images > 0,
        "blind": blind,
        "mute": [model for model, capabilities in known.items() if capabilities and CHATS not in capabilities],
        "keysRequired": bool(settings.api_keys_file),
        "maxTokens": settings.max_tokens,
        "maxBodyBytes": settings.max_body_bytes,
        "maxImagePixels": settings.max_image_pixels,
        "maxImages": settings.max_images,
    }
