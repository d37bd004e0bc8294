"""The page as a whole: answer, warnings, sections, provenance; everything it needs is inside it.

Nothing may leave the page: its content security policy lets no request pass, not even by mistake.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True)
class Page:
    """What a page says. Text is plain and is escaped here; the bodies of sections are HTML already."""

    kind: str
    """`Run`, `Sweep` or `Tuning`."""
    name: str
    title: str
    answer: Sequence[str]
    """Sentences, the most important first."""
    warnings: Sequence[str]
    sections: Sequence[tuple[str, str]]
    """Heading and HTML; sections without HTML are left out."""
    provenance: Mapping[str, Any]
    """The content of provenance.json."""
    scenario_yaml: str
    facts: Sequence[tuple[str, str]] = field(default_factory=list)
    """More lines of the provenance: where seconds come from, seed, replications."""


def render(page: Page) -> str:
    """The page as HTML. The same page gives the same text."""
    sections = [(heading, body) for heading, body in page.sections if body]
    drawn = any('class="chart"' in body for _, body in sections)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(page.name)}: {escape(page.kind.lower())}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>\n{_resource('page.css')}</style>",
            "</head>",
            "<body>",
            "<header>",
            f'<p class="kicker">{escape(page.kind)} · {escape(page.name)} · {escape(_day(page.provenance))}</p>',
            f"<h1>{escape(page.title)}</h1>",
            "</header>",
            "<main>",
            '<section class="answer" aria-label="Answer">',
            *paragraphs(page.answer),
            "</section>",
            _note(page.warnings),
            *(f"<section>\n<h2>{escape(heading)}</h2>\n{body}\n</section>" for heading, body in sections),
            "</main>",
            _footer(page),
            *([f"<script>{_plotly()}</script>"] if drawn else []),
            f"<script>\n{_resource('page.js')}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def paragraphs(sentences: Iterable[str], kind: str = "") -> list[str]:
    """Each sentence as a paragraph."""
    opening = f'<p class="{kind}">' if kind else "<p>"
    return [f"{opening}{escape(sentence)}</p>" for sentence in sentences]


def folded(summary: str, body: str) -> str:
    """HTML behind a line of text, open when printed."""
    return f"<details>\n<summary>{escape(summary)}</summary>\n{body}\n</details>"


def script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _note(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "\n".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    heading = "<h2>Before you use these numbers</h2>"
    return f'<aside class="note" aria-label="Warnings">\n{heading}\n<ul>\n{items}\n</ul>\n</aside>'


def _footer(page: Page) -> str:
    known = page.provenance
    commit = known.get("git_commit")
    state = " with uncommitted changes" if known.get("git_dirty") else ""
    facts = [
        *page.facts,
        ("Command", known.get("command")),
        ("Made", known.get("created_at")),
        ("InferTuner", f"{known.get('infertuner_version')}" + (f", commit {commit[:12]}{state}" if commit else "")),
        ("Python", known.get("python")),
        ("Packages", ", ".join(f"{name} {version}" for name, version in known.get("packages", {}).items())),
        ("Machine", ", ".join(str(part) for part in (known.get("cpu"), known.get("platform")) if part)),
        *((f"File {name}", f"sha256 {digest}") for name, digest in known.get("files", {}).items()),
    ]
    lines = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts if value)
    scenario = folded("The scenario as it was run", f'<pre tabindex="0">{escape(page.scenario_yaml)}</pre>')
    return f"<footer>\n<h2>Where this comes from</h2>\n<dl>\n{lines}\n</dl>\n{scenario}\n</footer>"


def _day(provenance: Mapping[str, Any]) -> str:
    return str(provenance.get("created_at") or "").partition("T")[0]


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The library that draws the figures, whole: a page is opened where there may be no network."""
    return str(get_plotlyjs()).replace("</script", "<\\/script")
