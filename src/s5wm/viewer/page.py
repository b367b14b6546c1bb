"""The page: HTML, style, scripts and content in one file that needs nothing else."""

import json
from importlib import resources
from typing import Any

STATIC = resources.files("s5wm.viewer") / "static"

STYLES = ("library.css", "viewer.css")
SCRIPTS = ("library.js", "data.js", "lines.js", "scene.js", "panels.js", "camera.js", "main.js")


def page_of(content: dict[str, Any]) -> str:
    """The whole page."""
    return _filled(
        _text("page.html"),
        {
            "{{title}}": escaped(f"{content['task']} · s5wm view"),
            "{{style}}": "\n".join(map(_text, STYLES)),
            "{{licences}}": _text("library.LICENSES.txt").replace("--", "- -"),
            # No string of the content can end the element that holds it.
            "{{content}}": json.dumps(content, allow_nan=False).replace("<", "\\u003c"),
            "{{scripts}}": "\n".join(f"<script>\n{_text(name)}\n</script>" for name in SCRIPTS),
        },
    )


def escaped(text: str) -> str:
    """Text as HTML has it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _filled(template: str, parts: dict[str, str]) -> str:
    """Each placeholder replaced once, in the order of the page: no part is searched for placeholders."""
    found: list[str] = []
    for name, part in sorted(parts.items(), key=lambda item: template.index(item[0])):
        before, _, template = template.partition(name)
        found += [before, part]
    return "".join([*found, template])


def _text(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
