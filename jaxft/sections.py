"""Dataclasses from nested dicts, as YAML gives them: unknown keys and wrong types become problems, all at once."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal

from jaxft.errors import Problems


def build(cls: type, tree: Any, where: str, prefix: str, problems: Problems) -> Any:
    """An instance of the dataclass `cls`; what does not fit is added to `problems` and keeps its default.

    where: the file, for messages. prefix: dotted name of the section, with its dot.
    """
    if not isinstance(tree, dict):
        what = f"expected a section with keys, came {type(tree).__name__} {tree!r}"
        problems.add(f"{where}: {prefix.rstrip('.') or 'top level'}", what)
        return cls()
    hints = _fields(cls)
    values = {}
    for key, value in tree.items():
        at = f"{where}: {prefix}{key}"
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            fix = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(hints)}"
            problems.add(at, "unknown key", fix)
        elif dataclasses.is_dataclass(hints[key]):
            values[key] = build(
                typing.cast(type, hints[key]), {} if value is None else value, where, f"{prefix}{key}.", problems
            )
        elif typing.get_origin(hints[key]) is tuple:
            values[key] = _listed(hints[key].__args__[0], value, where, f"{prefix}{key}", problems)
        else:
            try:
                values[key] = _coerce(value, hints[key])
            except ValueError:
                problems.add(at, f"expected {_describe(hints[key])}, came {value!r}")
    return cls(**values)


def _fields(cls: type) -> dict[str, Any]:
    """Key -> its type; what the class holds beside its fields is no key."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _listed(cls: Any, value: Any, where: str, at: str, problems: Problems) -> tuple[Any, ...]:
    """A list of sections, or of numbers or texts."""
    if value is None:
        return ()
    if not isinstance(value, list):
        problems.add(f"{where}: {at}", f"expected a list, came {value!r}")
        return ()
    if dataclasses.is_dataclass(cls):
        kind = typing.cast(type, cls)
        return tuple(build(kind, part, where, f"{at}[{n}].", problems) for n, part in enumerate(value))
    made = []
    for n, part in enumerate(value):
        try:
            made.append(_coerce(part, cls))
        except ValueError:
            problems.add(f"{where}: {at}[{n}]", f"expected {_describe(cls)}, came {part!r}")
    return tuple(made)


def _coerce(value: Any, hint: Any) -> Any:
    """`value` as the annotated type; ValueError where it does not fit. Integers pass for floats, 5e-5 strings too."""
    if _is_union(hint):
        for option in sorted(hint.__args__, key=lambda option: option is str):  # a number before its text
            try:
                return _coerce(value, option)
            except ValueError:
                continue
        raise ValueError
    if typing.get_origin(hint) is Literal:
        if value in hint.__args__:
            return value
        raise ValueError
    if hint is types.NoneType:
        if value is None:
            return None
        raise ValueError
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 5e-5 as text
        return float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ValueError
    return value


def _is_union(hint: Any) -> bool:
    """`X | Y`, which is of another class where one of them is a Literal."""
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def _describe(hint: Any) -> str:
    if _is_union(hint):
        return " or ".join(_describe(option) for option in hint.__args__)
    if typing.get_origin(hint) is Literal:
        return " | ".join(map(str, hint.__args__))
    names = {str: "text", int: "an integer", float: "a number", bool: "true or false", types.NoneType: "null"}
    return names.get(hint, str(hint))
