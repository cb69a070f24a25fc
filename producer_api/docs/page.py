"""The page at /docs: made from the OpenAPI document, complete in itself, usable offline."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from producer_api.inference.native import PATH as PREDICT
from shared.modules import PREFIX

_TEMPLATE = Path(__file__).with_name("page.html")
# Where this was installed is nobody's business.
_PHOTO = "photo.jpg" if PREFIX else "examples/photos/cat.jpg"
_CODE = re.compile(r"`([^`]+)`")

Node = Mapping[str, Any]


def render(document: Node) -> str:
    """Return the page as HTML."""
    info = document["info"]
    operations = [
        (path, method, {"parameters": item.get("parameters", ()), **operation, "shared": item.get("parameters", ())})
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    sections = []
    for tag in document["tags"]:
        chosen = [entry for entry in operations if tag["name"] in entry[2]["tags"]]
        cards = "".join(_operation(path, method, operation) for path, method, operation in chosen)
        sections.append(f"<h2>{_text(tag['name'].capitalize())}</h2><p>{_text(tag['description'])}</p>{cards}")
    schemas = "".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items())
    page = _TEMPLATE.read_text(encoding="utf-8")
    parts = {
        "title": _text(info["title"]),
        "version": _text(info["version"]),
        "description": _text(info["description"]),
        "operations": "".join(sections),
        "schemas": schemas,
    }
    for name, part in parts.items():
        page = page.replace("{{" + name + "}}", part)
    return page


def policy(page: str) -> str:
    """Return the Content-Security-Policy of the page: it loads nothing from elsewhere and runs what it came with.

    https://www.w3.org/TR/CSP3/#framework-directive-source-list has the form of the hashes.
    """
    sources = {}
    for kind in ("script", "style"):
        found = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in found)
        sources[kind] = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; connect-src 'self'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text, quote=False)).replace("\n", "<br>")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return "<div class=scroll><table><tr>" + "".join(f"<th>{name}</th>" for name in head) + f"</tr>{body}</table></div>"


def _operation(path: str, method: str, operation: Node) -> str:
    title = (
        f"<summary><span class='method {method}'>{method.upper()}</span> <code>{_text(path)}</code> "
        f"<span class=what>{_text(operation['summary'])}</span></summary>"
    )
    parts = [f"<p>{_text(operation['description'])}</p>" if "description" in operation else ""]
    parameters = [*operation["shared"], *(p for p in operation["parameters"] if p not in operation["shared"])]
    if parameters:
        rows = (
            (f"<code>{p['name']}</code>", p["in"], _type(p["schema"]), _text(p.get("description", "")))
            for p in parameters
        )
        parts.append("<h4>Parameters</h4>" + _table(("name", "in", "type", "meaning"), rows))
    if "requestBody" in operation:
        parts.append(_body(path, operation["requestBody"]))
    answers = (
        (f"<span class='status s{status[0]}'>{status}</span>", _text(answer["description"]), _shape_of(answer))
        for status, answer in operation["responses"].items()
    )
    parts.append("<h4>Answers</h4>" + _table(("status", "meaning", "body"), answers))
    opened = " open" if method == "post" else ""
    return f"<details class=operation{opened} id='{operation['operationId']}'>{title}{''.join(parts)}</details>"


def _body(path: str, body: Node) -> str:
    contents = body["content"]
    table = _table(
        ("content type", "body"),
        ((f"<code>{kind}</code>", _type(content["schema"])) for kind, content in contents.items()),
    )
    given = path.replace("{model}", "echo").replace("{version}", "1")
    examples = [
        _curl(given, kind, f"--data '{_example(content['example'])}'")
        for kind, content in contents.items()
        if "example" in content
    ]
    if path == PREDICT:
        pictures = path.replace("{model}", "imagenet")
        examples = [
            _curl(pictures, "image/jpeg", f"--data-binary @{_PHOTO}"),
            _curl(f"{pictures}?top_k=3", "image/jpeg", f"--data-binary @{_PHOTO}"),
            _curl(given, "application/octet-stream", "--data-binary hello"),
            *examples,
        ]
    lines = "\n".join(examples)
    return f"<h4>Body</h4><p>{_text(body.get('description', ''))}</p>{table}<h4>Examples</h4><pre>{lines}</pre>"


def _example(example: Any) -> str:
    return example.strip() if isinstance(example, str) else json.dumps(example)


def _curl(target: str, content_type: str, data: str) -> str:
    where = f"<span class=host>127.0.0.1:8000</span>{target}"
    return f"curl '{where}' \\\n  -H 'Content-Type: {content_type}' {html.escape(data, quote=False)}"


def _shape_of(answer: Node) -> str:
    if "content" not in answer:
        return "none"
    media_type, content = next(iter(answer["content"].items()))
    schema = content["schema"]
    return _type(schema) if "$ref" in schema else f"<code>{media_type}</code>"


def _schema(name: str, schema: Node) -> str:
    required = set(schema.get("required", ()))
    rows = (
        (
            f"<code>{field}</code>{'' if field in required else ' <small>optional</small>'}",
            _type(kind),
            _text(_meaning(kind)),
        )
        for field, kind in schema.get("properties", {}).items()
    )
    return (
        f"<section class=schema id='schema-{name}'><h3>{name}</h3><p>{_text(schema.get('description', ''))}</p>"
        f"{_table(('member', 'type', 'meaning'), rows)}</section>"
    )


def _meaning(schema: Node) -> str:
    """The description of a member, which is next to its type."""
    options = (schema, *schema.get("anyOf", ()))
    return next((option["description"] for option in options if "description" in option), "")


def _type(schema: Node) -> str:
    """Describe a type in a few words, with links to the shapes it names."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#schema-{name}'>{name}</a>"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type(option) for option in schema[key])
    kind = schema.get("type", "any")
    if kind == "array" and schema.get("items"):
        return f"list of {_type(schema['items'])}"
    if kind == "array":
        return "list"
    if kind == "string" and schema.get("format") == "binary":
        return "bytes"
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{_text(str(value))}</code>" for value in schema["enum"])
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        words += f", {low} to {high}" if high is not None else f", at least {low}"
    return words
