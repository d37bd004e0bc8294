"""Turning a validation error into the one line a person can act on: key, value, bound, next step."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

Step = str | int
LONGEST_VALUE = 60
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_MAPPING = "must be a mapping of keys, such as {kind: ...}"
_DEMANDS = {
    "union_tag_not_found": "must have the key 'kind'",
    "dataclass_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": "must be a mapping of keys",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}


def complain(error: ValidationError, raw: Any, schema: dict[str, Any]) -> tuple[list[Step], str]:
    """The path of the first problem inside `raw`, and the line that describes it without its source."""
    problems = error.errors()
    problem = next((problem for problem in problems if problem["type"] in _UNKNOWN_KEY), problems[0])
    path, part_schema = _locate(problem["loc"], raw, schema)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return path, _describe(problem, path, part_schema) + more


def _locate(loc: Sequence[Step], raw: Any, schema: dict[str, Any]) -> tuple[list[Step], dict[str, Any]]:
    """`loc` without the union tags pydantic puts in, and the schema of the mapping that holds its last step."""
    path: list[Step] = []
    here, at, holder = _resolve(schema, raw, schema), raw, schema
    for step, after in itertools.zip_longest(loc, loc[1:]):
        if isinstance(at, dict) and step == at.get("kind") and (step not in at or step == after):
            continue
        path.append(step)
        holder = here
        inside = step in at if isinstance(at, dict) else isinstance(at, list) and step in range(len(at))
        at = at[step] if inside else None
        child = here.get("properties", {}).get(step) or here.get("additionalProperties") or {}
        here = _resolve(child, at, schema) if isinstance(child, dict) else {}
    return path, holder


def _resolve(node: dict[str, Any], value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """Follow references and choose the union member that `value`'s kind names."""
    while True:
        kind = value.get("kind") if isinstance(value, dict) else None
        mapping = node.get("discriminator", {}).get("mapping", {})
        objects = [option for option in node.get("anyOf", []) if "$ref" in option or "discriminator" in option]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        elif isinstance(kind, str) and kind in mapping:
            node = {"$ref": mapping[kind]}
        elif objects:
            node = objects[0]
        else:
            return node


def _describe(problem: Any, path: list[Step], holder: dict[str, Any]) -> str:
    where, kind, value = dotted(path), problem["type"], problem["input"]
    context = problem.get("ctx", {})
    known = holder.get("properties", {})
    if kind in _UNKNOWN_KEY:
        return f"{where}: unknown key{_of_kind(holder)}; {_suggest(str(path[-1]), list(known))}"
    if kind in _MISSING:
        told = " ".join(known.get(path[-1], {}).get("description", "").split())
        return f"{where}: missing{_of_kind(holder)}. {told}".rstrip(". ")
    if kind == "union_tag_invalid":
        choices = [name.strip(" '") for name in context["expected_tags"].split(",")]
        return f"{where}.kind: {context['tag']!r} is not known; {_suggest(context['tag'], choices)}"
    what = _what_is_wrong(problem, context) + ("" if isinstance(value, dict) else f", got {_brief(value)}")
    return f"{where}: {what}" if path else what


def _brief(value: Any) -> str:
    """A value as it was written, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _what_is_wrong(problem: Any, context: dict[str, Any]) -> str:
    """The demand that a value did not meet."""
    kind = problem["type"]
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}"
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind in _DEMANDS:
        return _DEMANDS[kind]
    if kind == "value_error":
        return str(context["error"])
    return f"{problem['msg'][0].lower()}{problem['msg'][1:]}"


def _of_kind(holder: dict[str, Any]) -> str:
    kind = holder.get("properties", {}).get("kind", {}).get("const")
    return f" for kind {kind!r}" if kind else ""


def _suggest(wrong: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(wrong, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(sorted(choices))}"


def dotted(path: Sequence[Step]) -> str:
    """A path as people write it.

    >>> dotted(["arms", 0, "cluster.gpus"])
    'arms.0.cluster.gpus'
    """
    return ".".join(repr(step)[1:-1] if isinstance(step, str) else str(step) for step in path)
