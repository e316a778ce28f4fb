"""The API for people, at /api/docs: made from its OpenAPI description, without scripts from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem } code, pre { font: 14px/1.45 ui-monospace, monospace }
pre { background: #8881; padding: .6rem .8rem; border-radius: 6px; overflow-x: auto }
b { display: inline-block; min-width: 3.5rem; color: #1d6f93 } @media (prefers-color-scheme: dark) {
body { background: #121316; color: #e8e8e4 } b { color: #5bb6d8 } a { color: #5bb6d8 } }
"""


def add(app: FastAPI) -> None:
    """Add the page to the application."""

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()))


def page(described: dict[str, Any]) -> str:
    """An OpenAPI description as HTML."""
    info = described["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(info['title'])}</title>",
        f"<style>{_STYLE}</style><h1>{_text(info['title'])}</h1><p>{_text(info['description'])}</p>",
        "<p>For programs: <a href='/api/openapi.json'>openapi.json</a></p><h2>Requests</h2>",
    ]
    for path, methods in described["paths"].items():
        for method, one in methods.items():
            parts.append(f"<h3><code><b>{method.upper()}</b> {_text(path)}</code></h3>")
            parts.append(f"<p>{_text(one.get('description', ''))}</p>")
            lines = [f"{p['in']} {p['name']}: {_kind(p['schema'])}" for p in one.get("parameters", [])]
            body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body:
                lines.append(f"body: {_kind(body)}")
            content = one["responses"].get("200", {}).get("content", {})
            answer = content.get("application/json", {}).get("schema")
            lines.append(f"answer: {_kind(answer) if answer else 'an image'}")
            parts.append(f"<pre>{_text(chr(10).join(lines))}</pre>")
    parts.append("<h2>Types</h2>")
    for name, model in described.get("components", {}).get("schemas", {}).items():
        fields = [
            f"{field}: {_kind(kind)}" + ("" if field in model.get("required", []) else "  (may be left out)")
            for field, kind in model.get("properties", {}).items()
        ]
        parts.append(f"<h3 id='{_text(name)}'>{_text(name)}</h3><p>{_text(model.get('description', ''))}</p>")
        parts.append(f"<pre>{_text(chr(10).join(fields))}</pre>")
    return "".join(parts)


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for name in ("anyOf", "allOf"):
        if name in schema:
            return " or ".join(_kind(one) for one in schema[name])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"[{_kind(schema.get('items', {}))}]"
    return str(schema.get("type", "anything")) + (f" ({schema['format']})" if "format" in schema else "")


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
