"""YAML 1.2 with lines: the nodes of ruamel.yaml, and nothing of its constructors. Aliases are followed, counted."""

from __future__ import annotations

from typing import Any

from covey.fleet.spec.source import MAX_DEPTH, MAX_NODES, Fault, Node, SpecError, quote

__all__ = ["read_yaml"]

_SCALARS = {"str", "int", "float", "bool", "null"}


def read_yaml(text: str, name: str) -> Node:
    """The tree of a YAML document. Raises `SpecError`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        what = " ".join(str(error.problem or error.context or "").split())
        raise SpecError(name, [Fault(line, "", "", "YAML", what[:200])]) from None
    except YAMLError as error:
        raise SpecError(name, [Fault(0, "", "", "YAML", " ".join(str(error).split())[:200])]) from None
    except (RecursionError, ValueError):
        raise SpecError(name, [Fault(0, "", "", f"YAML nested at most {MAX_DEPTH} deep")]) from None
    return _Tree(name).build(root, 0) if root is not None else Node({}, 1)


class _Tree:
    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def build(self, node: Any, depth: int) -> Node:
        from ruamel.yaml.nodes import MappingNode, SequenceNode

        line = node.start_mark.line + 1
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            self.refuse(line, f"at most {MAX_NODES} values, nested at most {MAX_DEPTH} deep")
        if isinstance(node, MappingNode):
            return Node(self.mapping(node, depth), line)
        if isinstance(node, SequenceNode):
            return Node([self.build(each, depth + 1) for each in node.value], line)
        return Node(self.scalar(node, line), line)

    def mapping(self, node: Any, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            word = key.value
            if not isinstance(word, str):
                self.refuse(line, "a plain word as the name of a field")
            if word in found:
                self.refuse(line, f"each field once; {quote(word)} stands here again")
            found[word] = self.build(value, depth + 1)
            found[word].line = line
        return found

    def scalar(self, node: Any, line: int) -> Any:
        kind = str(node.tag).rpartition(":")[2]
        text = node.value
        if kind == "timestamp":  # a date is a word here
            return text
        if kind not in _SCALARS or not str(node.tag).startswith("tag:yaml.org,2002:"):
            self.refuse(line, f"a text, a number, true, false or null, not the tag {quote(str(node.tag))}")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            if kind == "int":
                return int(text.replace("_", ""), 0) if text.lstrip("+-")[:2] in ("0o", "0x") else int(text)
            if kind == "float":
                return float(text.replace(".inf", "inf").replace(".nan", "nan").replace(".NaN", "nan"))
        except ValueError:
            self.refuse(line, f"a number, not {quote(text)}")
        return text

    def refuse(self, line: int, expected: str) -> None:
        raise SpecError(self.name, [Fault(line, "", "", expected)])
