"""YAML as people expect it: the only door to PyYAML.

PyYAML follows YAML 1.1, where `1e6` is text, `on` and `off` are booleans, `12:30` is 750, and lets a repeated key win.
This reader keeps the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema) and refuses repeated keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from infertuner.errors import ScenarioError


class _CoreSchemaLoader(yaml.SafeLoader):
    """A safe loader without YAML 1.1's implicit types; scalars get the core schema's instead."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - an attribute of PyYAML


class _CoreSchemaDumper(yaml.SafeDumper):
    """A dumper that quotes what the loader above would not read as text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - an attribute of PyYAML


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("merge", r"^<<$", ["<"]),
):
    for _side in (_CoreSchemaLoader, _CoreSchemaDumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def _construct_int(loader: _CoreSchemaLoader, node: yaml.ScalarNode) -> int:
    """A whole number; YAML 1.1 would read 010 as eight."""
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _construct_float(loader: _CoreSchemaLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))


_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def read(text: str, source: str) -> Any:
    """The value of a YAML document.

    >>> read("{a: 1e6, b: on, c: 010}", "example")
    {'a': 1000000.0, 'b': 'on', 'c': 10}
    """
    try:
        loader = _CoreSchemaLoader(text)
        node = loader.get_single_node()
        _check_keys(node)
        return loader.construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ScenarioError(f"{source}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ScenarioError(f"{source}: not valid YAML: {' '.join(str(error).split())[:200]}") from None


def _check_keys(root: yaml.Node | None) -> None:
    """Complain of a key that is no text or that stands twice in its mapping."""
    nodes, seen_nodes = [root], set[int]()
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in seen_nodes:
            continue
        seen_nodes.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                problem = _problem_of(key, seen)
                if problem:
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                seen.add(key.value)
                nodes.append(value)


def _problem_of(key: yaml.Node, seen: set[str]) -> str:
    if key.tag == "tag:yaml.org,2002:merge":
        return ""
    if key.tag != "tag:yaml.org,2002:str":
        return "every key must be text; quote it if it is meant as such"
    return f"the key {key.value!r} is given twice; keep one" if key.value in seen else ""


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The 1-based line on which the value at `path` is written, or of its nearest written parent; None without any."""
    node, line = yaml.compose(text, _CoreSchemaLoader) if text else None, None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = [(node.value[step], node.value[step])]
        else:
            found = []
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return line


def write(value: Any) -> str:
    """A YAML document that `read` turns into `value` again."""
    return yaml.dump(value, Dumper=_CoreSchemaDumper, sort_keys=False, allow_unicode=True, width=120)
