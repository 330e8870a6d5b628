"""The web page: a chat in the browser, made of the static files beside this one.

It talks to the API of the server that it came from and to nothing else; the policy below holds the browser to that.
Knows no model, no key and no talk: talks stay in the browser.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FILES = {
    "index.html": "text/html",
    "style.css": "text/css",
    **dict.fromkeys(
        (
            "answers.js",
            "api.js",
            "app.js",
            "composer.js",
            "dom.js",
            "drawer.js",
            "follow.js",
            "highlight.js",
            "inline.js",
            "markdown.js",
            "messages.js",
            "settings.js",
            "sidebar.js",
            "talks.js",
            "theme.js",
        ),
        "text/javascript",
    ),
}
"""Every file of the page and its media type. What is not listed is not served."""

# Trusted types without a policy: the browser itself refuses every way from a string to markup or code.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, but asked about each time: after an update no file of one version meets one of another.
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """`/` and the files behind it at `/page/NAME`; they hold no secret, so they need no key."""
    return [
        Route("/" if name == "index.html" else f"/page/{name}", _serves(name, media)) for name, media in FILES.items()
    ]


def _serves(name: str, media: str) -> Callable[[Request], Awaitable[Response]]:
    content = (files(__package__) / name).read_bytes()
    headers = {**HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}

    async def serve(request: Request) -> Response:
        # A cache on the way may have made the tag a weak one.
        if headers["ETag"] in request.headers.get("If-None-Match", "").replace("W/", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media, headers=headers)

    return serve
