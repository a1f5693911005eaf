"""The API's own page, /api/docs: Swagger UI, whose files come from this service too."""

from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from evaluator.web.site import TheSite

FILES = StaticFiles(directory=str(resources.files("fastapi_swagger") / "resources"))
FILES_AT = "/api/docs/files"
OPENAPI_AT = "/api/openapi.json"

# Swagger UI sets styles of single elements, and has its icons as data.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="icon" href="{FILES_AT}/favicon-32x32.png">
<link rel="stylesheet" href="{FILES_AT}/swagger-ui.css">
<script src="{FILES_AT}/swagger-ui-bundle.js" defer></script>
<script src="{{script}}" defer></script>
</head>
<body><main id="api" data-openapi="{OPENAPI_AT}"></main></body>
</html>
"""

router = APIRouter(include_in_schema=False)


@router.get("/api/docs")
def docs(site: TheSite) -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE.format(script=site.static("docs.js")), headers={"Content-Security-Policy": _POLICY})
