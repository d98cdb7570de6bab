"""The facade: what it offers, that all of it is there, and that all is explained."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

import pytest

import deepseek_async
from deepseek_async import errors, types

# Rooms with a door of their own: `import deepseek_async.testing`.
OWN_DOOR = ("deepseek_async.testing", "deepseek_async.cli", "deepseek_async.__main__")
# Tables behind `raise_for_finish_reason` and the mapping of statuses.
INTERNAL = {"BY_FINISH_REASON", "BY_STATUS"}

FACADE: dict[str, Any] = {
    name: getattr(deepseek_async, name) for name in deepseek_async.__all__
}
CALLABLES = [name for name, value in FACADE.items() if inspect.isroutine(value)]
CLASSES = [name for name, value in FACADE.items() if inspect.isclass(value)]


def is_code(member: object) -> bool:
    """Whether a member of a class is a method or a property."""
    return inspect.isroutine(member) or isinstance(member, property)


def modules() -> list[ModuleType]:
    """Every module behind the facade."""
    found = pkgutil.walk_packages(
        deepseek_async.__path__, "deepseek_async.", onerror=lambda _: None
    )
    names = [one.name for one in found if not one.name.startswith(OWN_DOOR)]
    return [importlib.import_module(name) for name in names]


def test_the_facade_lists_each_name_once() -> None:
    """`__all__` has no name twice and none that starts with an underscore."""
    listed = deepseek_async.__all__

    assert len(listed) == len(set(listed))
    assert [n for n in listed if n.startswith("_")] == ["__version__"]


def test_a_star_import_gives_the_facade() -> None:
    """Everything listed exists."""
    scope: dict[str, Any] = {}
    exec("from deepseek_async import *", scope)  # noqa: S102 - the thing to test

    assert set(deepseek_async.__all__) <= set(scope) | {"__version__"}


def test_the_facade_hides_nothing_it_imports() -> None:
    """What the facade imports from its modules is listed, and nothing else is."""
    imported = {
        name
        for name, value in vars(deepseek_async).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and name != "annotations"
    }

    assert imported == set(deepseek_async.__all__) - {"__version__"}


@pytest.mark.parametrize("module", [errors, types], ids=lambda m: m.__name__)
def test_the_facade_offers_what_its_packages_offer(module: Any) -> None:
    """One object under one name, whichever door it is taken from."""
    for name in set(module.__all__) - INTERNAL:
        assert FACADE.get(name) is getattr(module, name), name


@pytest.mark.parametrize("name", CLASSES + CALLABLES)
def test_public_names_are_documented(name: str) -> None:
    """Every class and function says what it is, in words of its own."""
    value = FACADE[name]
    text = inspect.getdoc(value) or ""

    assert len(text.split()) >= 3, name
    if inspect.isclass(value) and value.__mro__[1] is not object:
        assert value.__doc__ != value.__mro__[1].__doc__


@pytest.mark.parametrize("name", CLASSES)
def test_public_members_are_documented(name: str) -> None:
    """So does every public method and property that a class defines itself."""
    cls: type = FACADE[name]
    bare: list[str] = [
        member
        for member in list[str](vars(cls))
        if not member.startswith("_")
        and is_code(inspect.getattr_static(cls, member))
        and not inspect.getdoc(getattr(cls, member))
    ]

    assert bare == []


def test_a_name_means_one_thing() -> None:
    """What a package inside offers under a public name is the public thing."""
    for module in modules():
        for name in set(getattr(module, "__all__", ())) & set(FACADE):
            assert FACADE[name] is getattr(module, name), (module, name)


def test_every_module_says_what_it_is_for() -> None:
    """Each module opens with a docstring."""
    assert [m.__name__ for m in modules() if not (m.__doc__ or "").strip()] == []


def test_names_live_in_one_place() -> None:
    """Public classes and functions come from this package, not from another."""
    foreign = [
        name
        for name in CLASSES + CALLABLES
        if not FACADE[name].__module__.startswith("deepseek_async")
    ]

    assert foreign == []
