"""No type of a record mixes a string with a pattern and a container in one union.

msgspec 0.22 takes such a pattern for the container's type when it frees the type, which ends the interpreter with a
segmentation fault on Python 3.12 and 3.13. Source: TypeNode_get_traverse_ranges, msgspec issue 717.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import inspect

import agent
import collector
import phasewatt

CONTAINERS = (
    *(inspect.ListType, inspect.VarTupleType, inspect.TupleType),
    *(inspect.DictType, inspect.SetType, inspect.FrozenSetType),
)


class Mixed(msgspec.Struct):
    """What must not be."""

    values: dict[str, tuple[int, ...] | Annotated[str, msgspec.Meta(pattern="a")]]


def structs() -> Iterator[type[msgspec.Struct]]:
    """Every struct of the three packages that can be imported without what is optional."""
    for package in (phasewatt, agent, collector):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield from found_in(module.name)


def found_in(name: str) -> list[type[msgspec.Struct]]:
    """The structs of one module; none if it defines none, or an optional package is missing."""
    spec = importlib.util.find_spec(name)
    if (
        spec is None
        or spec.origin is None
        or not re.search(r"^class .*(Struct|Record)", Path(spec.origin).read_text(), re.M)
    ):
        return []
    try:
        module = importlib.import_module(name)
    except ImportError:
        return []
    return [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]


def types_in(value: object, seen: set[int]) -> Iterator[inspect.Type]:
    """`value` and all types within it."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, inspect.Type):
        yield value
    if isinstance(value, inspect.Type | inspect.Field):
        for name in value.__struct_fields__:
            inner = getattr(value, name)
            for each in inner if isinstance(inner, tuple) else (inner,):
                yield from types_in(each, seen)


def is_mixed(kind: inspect.Type) -> bool:
    """Whether it is such a union."""
    if not isinstance(kind, inspect.UnionType):
        return False
    has_pattern = any(isinstance(each, inspect.StrType) and each.pattern is not None for each in kind.types)
    return has_pattern and any(isinstance(each, CONTAINERS) for each in kind.types)


def mixed(struct: type[msgspec.Struct]) -> bool:
    """Whether a field of `struct`, at any depth, is such a union."""
    try:
        whole = inspect.type_info(struct)
    except (TypeError, NameError):  # a generic one, or one of names that only a type checker sees
        return False
    return any(is_mixed(each) for each in types_in(whole, set()))


def test_no_struct_is_of_such_a_type() -> None:
    every = set(structs())
    assert len(every) > 100
    assert [struct.__qualname__ for struct in every if mixed(struct)] == []


def test_such_a_type_is_found() -> None:
    assert mixed(Mixed)


@pytest.mark.parametrize("kind", [int | None, Annotated[str, msgspec.Meta(pattern="a")] | None])
def test_others_pass(kind: object) -> None:
    assert not is_mixed(inspect.type_info(kind))
