"""A recipe and keys of it overridden on the command line: `jaxft train sms_spam --train.epochs 1 --out runs/short`.

tyro lists the options out of the recipe's dataclasses and parses; their values are then read as a recipe file's are, so
that both take and refuse the same things, in the same words, all at once.
"""

from __future__ import annotations

import dataclasses
import itertools
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import tyro
import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxft import arguments, recipes
from jaxft import recipe as recipe_module
from jaxft.errors import Problems, UserError
from jaxft.recipe import Recipe

RECIPE_KEY = tyro.conf.FlagConversionOff
"""Marks the keys of the recipe among a command's options: `--train.packing false`, not `--train.no-packing`."""
_METAVARS = {str: "TEXT", int: "INT", float: "NUMBER", bool: "true|false", types.NoneType: "null"}


@dataclass(frozen=True)
class WithRecipe:
    """What a command on a recipe takes; commands add their own options."""

    recipe: tyro.conf.Positional[str] = ""
    """A recipe file, or the name of a shipped recipe."""
    keys: Annotated[Recipe, tyro.conf.arg(name=""), RECIPE_KEY] = dataclasses.field(default_factory=Recipe)

    SHIPPED: ClassVar[str] = recipes.SUPERVISED
    """Which of the shipped recipes have these keys."""


Command = TypeVar("Command", bound=WithRecipe)


def parse(command: type[Command], argv: Sequence[str], prog: str) -> Command:
    """The command's options; `keys` is the recipe with its overrides. Raises UserError with every problem.

    `--help` prints and raises SystemExit, as tyro does; with a recipe named, it shows that recipe's values.
    """
    kind = type(command().keys)
    _check_values(argv, _keys(kind), prog)
    asked = [arg for arg in argv if arg in ("-h", "--help")]
    named = _cli(command, [arg for arg in argv if arg not in asked], prog, command()).recipe
    if not named and not asked:
        fix = f"shipped: {', '.join(recipes.names(command.SHIPPED))}; {recipes.ADVICE[command.SHIPPED]}"
        raise UserError(prog, "no recipe named", fix)
    chosen = recipe_module.load(recipes.find(named, command.SHIPPED), kind) if named else kind()
    found = _cli(command, argv, prog, command(recipe=named, keys=chosen))
    tree = recipe_module.to_tree(found.keys)
    return dataclasses.replace(found, keys=recipe_module.from_tree(tree, "command line", kind))


def _cli(command: type[Command], argv: Sequence[str], prog: str, default: Command) -> Command:
    registry = ConstructorRegistry()
    registry.primitive_rule(_as_in_yaml)
    return arguments.parse(command, argv, prog, _keys(type(default.keys)), default=default, registry=registry)


# --- values ----------------------------------------------------------------------------------------------------------


def _as_in_yaml(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """The rule for keys of the recipe: one word, read as YAML would. The command's own options stay tyro's."""
    if RECIPE_KEY not in info.markers or dataclasses.is_dataclass(info.type):
        return None
    hints = info.type.__args__ if isinstance(info.type, types.UnionType) else (info.type,)
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(_metavar(hint) for hint in hints),
        instance_from_str=lambda words: _value(words[0], hints),
        is_instance=lambda value: True,  # checked afterwards, with all other keys
        str_from_instance=lambda value: [_shown(value)],
    )


def _metavar(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return "LIST"
    return (
        "|".join(map(str, typing.get_args(hint)))
        if typing.get_origin(hint) is Literal
        else _METAVARS.get(hint, str(hint))
    )


def _value(word: str, hints: tuple[Any, ...]) -> Any:
    """What a recipe file would hold. Where text is allowed, a word stays text unless it is a number or null that the
    key takes: `--data.label 1` is a column named 1, `--data.dev 0.1` a fraction."""
    try:
        value = yaml.safe_load(word)
    except yaml.YAMLError:
        return word
    takes_text = str in hints or any(typing.get_origin(hint) is Literal for hint in hints)
    return word if takes_text and type(value) not in hints else value


def _shown(value: Any) -> str:
    """A value as it would be given; a list of sections with what they change."""
    if isinstance(value, tuple):
        parts = [_changed(part) if dataclasses.is_dataclass(part) else part for part in value]
        return yaml.safe_dump(parts, default_flow_style=True, sort_keys=False, width=10**6).strip()
    return value if isinstance(value, str) else yaml.safe_dump(value).partition("\n")[0]


def _changed(part: Any) -> dict[str, Any]:
    fields = dataclasses.fields(part)
    return {field.name: getattr(part, field.name) for field in fields if getattr(part, field.name) != field.default}


# --- names -----------------------------------------------------------------------------------------------------------


def _check_values(argv: Sequence[str], keys: list[str], prog: str) -> None:
    """Raises UserError with every key that no value follows."""
    problems = Problems()
    for arg, after in itertools.pairwise([*argv, "--"]):
        if arg.startswith("--") and "=" not in arg and arguments.name_of(arg) in keys and after.startswith("--"):
            problems.add(f"{prog}: {arg}", "needs a value")
    problems.raise_if_any()


def _keys(cls: type, prefix: str = "") -> list[str]:
    """Dotted names of all keys of a dataclass, sections gone into."""
    hints, names = typing.get_type_hints(cls), []
    for field in dataclasses.fields(cls):
        inner = typing.cast(type, hints[field.name])
        names += _keys(inner, f"{prefix}{field.name}.") if dataclasses.is_dataclass(inner) else [prefix + field.name]
    return names
