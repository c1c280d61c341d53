"""The description of the API as one HTML page: no script, no font and no picture from anywhere."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dee4, #3a4149); --soft: light-dark(#f6f8fa, #1d2229);
  --link: light-dark(#0a5cc2, #7ab7ff); }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere;
  color: light-dark(#1f2328, #e4e8ec); background: light-dark(#fff, #14181d); }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 2.5rem; } h4 { margin: 1.25rem 0 .25rem; } p { margin: .5rem 0; } a { color: var(--link); }
code, pre { font: .9em/1.45 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1em .3em; } pre { padding: .75rem; overflow-x: auto; }
.method { font-weight: 700; margin-right: .5em; } .note { color: light-dark(#57606a, #9aa4af); }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { border-top: 1px solid var(--line); padding: .35rem .6rem .35rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; width: 22%; } nav ul { columns: 2; padding-left: 1.25rem; } td p, td ul { margin: 0; }
"""
# What the page may load: its own style, and nothing else.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    tags = [tag["name"] for tag in document["tags"]]
    parts = [
        f"<h1>{escape(info['title'])}</h1>",
        _prose(info["description"]),
        '<p>The same for programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1).</p>',
        "<nav><h2>Calls</h2><ul>",
        *(
            f'<li><a href="#{operation["operationId"]}"><code>{method} {escape(path)}</code></a></li>'
            for tag in tags
            for method, path, operation in operations
            if tag in operation["tags"]
        ),
        "</ul></nav><main>",
    ]
    for tag in tags:
        parts.append(f"<section><h2>{escape(tag)}</h2>")
        parts += [_operation(document, *one) for one in operations if tag in one[2]["tags"]]
        parts.append("</section>")
    parts.append("<section><h2>Types</h2>")
    parts += [_type(name, schema) for name, schema in document["components"]["schemas"].items()]
    parts.append("</section></main>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: the API</title><style>{_STYLE}</style></head><body>"
        f"{''.join(parts)}</body></html>"
    )


def _operation(document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    callers = " or ".join(name for one in operation["security"] for name in one) or "nobody in particular"
    parts = [
        (
            f'<article><h3 id="{operation["operationId"]}"><span class="method">{method}</span>'
            f"<code>{escape(path)}</code></h3>"
        ),
        f"<p><strong>{escape(operation['summary'])}.</strong></p>",
        _prose(operation["description"]),
        f'<p class="note">Token: {escape(callers)}</p>',
    ]
    if operation["parameters"]:
        rows = (
            (
                f"<code>{escape(one['name'])}</code>",
                (
                    f"{_kind(one['schema'])}, in the {one['in']}{', needed' if one['required'] else ''}"
                    f"{_prose(one.get('description', ''))}"
                ),
            )
            for one in operation["parameters"]
        )
        parts.append(_table("Parameters", rows))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h4>Body, {escape(media_type)}: {_kind(content['schema'])}</h4>")
        if "example" in content:
            parts.append(f"<pre>{escape(json.dumps(content['example'], indent=1, ensure_ascii=False))}</pre>")
    answers = ((status, _answer(_resolved(document, one))) for status, one in operation["responses"].items())
    parts.append(_table("Answers", answers))
    return "".join([*parts, "</article>"])


def _answer(response: Mapping[str, Any]) -> str:
    said = _prose(response["description"])
    for media_type, content in response.get("content", {}).items():
        if media_type != "application/problem+json":
            data = content["schema"].get("properties", {}).get("data", content["schema"])
            said += f"<p>{escape(media_type)} {_kind(data)}</p>"
    headers = [name for name in response.get("headers", {}) if name != "X-Request-Id"]
    return said + (f'<p class="note">Headers: {escape(", ".join(headers))}</p>' if headers else "")


def _type(name: str, schema: Mapping[str, Any]) -> str:
    parts = [f'<article><h3 id="type-{escape(name)}">{escape(name)}</h3>', _prose(schema.get("description", ""))]
    if "enum" in schema:
        parts.append(f"<p>{_kind(schema)}</p>")
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(member)}</code>",
            f"{_kind(one)}{'' if member in required else ', optional'}{_prose(one.get('description', ''))}",
        )
        for member, one in schema.get("properties", {}).items()
    )
    return "".join([*parts, _table("Members", rows) if "properties" in schema else "", "</article>"])


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a schema allows."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#type-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    kinds = schema.get("type", "anything")
    said = " or ".join(kinds) if isinstance(kinds, list) else str(kinds)
    bounds = [
        f"{label} {schema[keyword]}"
        for keyword, label in (("format", ""), ("minimum", "from"), ("maximum", "to"), ("default", "default"))
        if keyword in schema
    ]
    return escape(", ".join([said, *(bound.strip() for bound in bounds)]))


def _table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><th scope="row">{name}</th><td>{text}</td></tr>' for name, text in rows)
    return f"<table><caption>{caption}</caption><tbody>{body}</tbody></table>"


def _prose(text: str) -> str:
    """Write the little of Markdown that descriptions use: paragraphs, lists, code."""
    blocks = []
    for block in text.strip().split("\n\n"):
        is_list = block.startswith("* ")
        items = re.split(r"\n?^\* ", block, flags=re.MULTILINE)[1:] if is_list else [block]
        lines = [re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(item.strip(), quote=False)) for item in items]
        blocks.append(f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>" if is_list else f"<p>{lines[0]}</p>")
    return "".join(blocks) if text.strip() else ""


def _resolved(document: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in node:
        return node
    found: Any = document
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return _resolved(document, found)
