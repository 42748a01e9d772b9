"""Protection from web pages: a browser sends requests for any page, even to addresses that only it can reach.

A page of another site is refused, unless ALLOWED_ORIGINS names its origin or the request has an API key. If the server
listens on a loopback address, so is a page whose host name was made to resolve to that address (DNS rebinding).
"""

from flask import Flask, Response, request

from service import addresses
from service.errors import Forbidden, Unauthorized
from service.http_request import authenticate
from service.keys import Keys
from service.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")  # a page of another site can't read the answer, and they change nothing
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    # `*` covers the headers that OpenAI's and Anthropic's clients add, but not Authorization.
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Priority, X-Request-Id, *",
    "Access-Control-Max-Age": "7200",  # seconds; the most that Chromium honours
}
EXPOSED = "Retry-After, X-Request-Id, Request-Id"


def check_host(app: Flask, listens_on: str, settings: Settings) -> None:
    """Make `app` answer only to its own host names; see ALLOWED_HOSTS. listens_on: its address.

    A request without Host passes: browsers always send one.
    """
    names = {addresses.host_name(name) for name in addresses.listed(settings.allowed_hosts)}
    if not names and not addresses.is_loopback(listens_on):
        return

    @app.before_request
    def known_host() -> None:
        host = request.headers.get("Host", "")
        name = addresses.host_name(host)
        if host and not addresses.is_loopback(name) and name not in names:
            raise Forbidden("Host: this server answers only to names of its own and to those in ALLOWED_HOSTS")


def check_origin(app: Flask, keys: Keys | None, settings: Settings) -> None:
    """Make `app` refuse pages of other sites, and send CORS headers to the origins in ALLOWED_ORIGINS."""
    listed = addresses.listed(settings.allowed_origins)
    everyone, origins = "*" in listed, {addresses.origin(each) for each in listed if each != "*"}

    def allowed() -> bool:
        origin = request.headers.get("Origin")
        return origin is not None and (everyone or addresses.origin(origin) in origins)

    @app.before_request
    def known_origin() -> Response | None:
        if not allowed():
            if is_foreign() and not has_key(keys):
                raise Forbidden("Origin: pages of other sites are let in only if ALLOWED_ORIGINS names their origin")
        elif request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return Response(status=204, headers=PREFLIGHT)
        return None

    @app.after_request
    def answer(response: Response) -> Response:
        response.headers.add("Vary", "Origin")
        if allowed():
            response.headers["Access-Control-Allow-Origin"] = "*" if everyone else request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
        return response


def require_https(app: Flask, settings: Settings) -> None:
    """Tell browsers to use HTTPS only, for as long as HSTS_SECONDS says."""
    if not settings.hsts_seconds:
        return

    @app.after_request
    def strict(response: Response) -> Response:
        response.headers["Strict-Transport-Security"] = f"max-age={settings.hsts_seconds}"
        return response


def is_foreign() -> bool:
    """Say whether a page of another site sends the current request.

    The rules are those of Go's http.CrossOriginProtection: Sec-Fetch-Site comes from the browser itself, and holds even
    if a proxy has changed Host. Browsers omit it over plain HTTP; there Origin and Host must agree.
    """
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")
    if site is not None:
        asks = origin is not None or request.method not in SAFE_METHODS
        return asks and site not in ("same-origin", "none")
    if origin is None:
        return False
    known = addresses.origin(origin)
    scheme = known.partition("://")[0]
    return not known or addresses.origin(f"{scheme}://{request.headers.get('Host', '')}") != known


def has_key(keys: Keys | None) -> bool:
    """Say whether the current request has a valid API key, which no page of another site knows."""
    try:
        return authenticate(keys) is not None
    except Unauthorized:
        return False
