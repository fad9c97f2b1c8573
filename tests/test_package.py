"""The installed package must hold what the source tree holds: pyproject.toml is checked against the tree."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import jaxft

ROOT = Path(__file__).parent.parent


def packages_of_tree() -> set[str]:
    found = set()
    for name, folder in (("jaxft", "jaxft"), ("jaxft.kernels", "kernels")):
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *inner)))
    return found


def test_every_folder_with_code_is_listed_and_has_an_init():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert set(listed) == packages_of_tree()
    for package in listed:
        assert importlib.import_module(package).__doc__, f"{package} has no docstring"


def test_kernels_are_not_importable_under_a_name_of_their_own():
    assert importlib.import_module("jaxft.kernels").__name__ == "jaxft.kernels"
    assert not any(path.name == "kernels" and path.is_dir() for path in (ROOT / "jaxft").iterdir())


def test_train_is_a_function_though_a_folder_bears_its_name():
    importlib.import_module("jaxft.train")
    assert callable(jaxft.train)
    assert {"load", "train", "__version__"} <= set(dir(jaxft))


def test_every_shipped_recipe_is_among_the_packages_files():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    folder = ROOT / "jaxft" / "recipes"
    listed = {path for pattern in data["jaxft.recipes"] for path in folder.glob(pattern)}
    assert listed == set(folder.rglob("*.yaml")) and len(listed) > 10
