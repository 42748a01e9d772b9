"""The web page at `/`: one HTML file that uses this server's API and nothing else."""

import secrets
from collections.abc import Callable

from flask import Blueprint, Response, make_response, render_template

from service.settings import Settings

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


def page_blueprint(*, settings: Settings, vision: Callable[[], bool]) -> Blueprint:
    """Return the route `GET /`; vision: called for each request, decides whether images can be attached."""
    page = Blueprint("page", __name__, template_folder="templates")

    @page.get("/")
    def index() -> Response:
        """Render the page with a nonce of its own."""
        nonce = secrets.token_urlsafe(16)
        config = {
            "model": settings.model,
            "vision": vision() and settings.max_images > 0,
            "keysRequired": bool(settings.api_keys_file),
            "maxTokens": settings.max_tokens,
            "maxBodyBytes": settings.max_body_bytes,
            "maxImagePixels": settings.max_image_pixels,
            "maxImages": settings.max_images,
        }
        response = make_response(render_template("page.html", nonce=nonce, page=config))
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.format(nonce=nonce)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    return page
