"""`jaxft assets`: lists the pinned models and data sets, fetches them into the cache."""

from __future__ import annotations

import tyro
from rich.console import Console
from rich.table import Table

from jaxft import assets
from jaxft.errors import Problems, UserError

HELP = "lists pinned models and data sets, their licences; fetches them"


def run(names: tyro.conf.Positional[tuple[str, ...]] = (), all: bool = False) -> int:
    """Lists the pinned models and data sets; with names, fetches those into the cache and says where they lie.

    Args:
        names: Assets to fetch; none: the list.
        all: Fetch every asset.
    """
    if all:
        names = tuple(assets.load_index())
    if not names:
        _print_list()
        return 0
    for asset in _known(names):
        folder = assets.fetch(asset.name, progress=True)
        print(
            f"{asset.name}: {asset.what}\n  licence  {asset.licence}\n  package  {_origin(asset)}\n  folder   {folder}"
        )
    return 0


def main(argv: list[str]) -> int:
    return tyro.cli(run, args=argv, prog="jaxft assets", config=(tyro.conf.FlagCreatePairsOff,))


def _known(names: tuple[str, ...]) -> list[assets.Asset]:
    """All names are looked up before the first download, all wrong ones told at once."""
    problems, found = Problems(), []
    for name in names:
        try:
            found.append(assets.get(name))
        except UserError as error:
            problems.take(error)
    problems.raise_if_any()
    return found


def _origin(asset: assets.Asset) -> str:
    return f"{asset.package} {asset.version} ({asset.registry})"


def _print_list() -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "kind", "MB", "cached", "licence", "what"):
        table.add_column(title, justify="right" if title == "MB" else "left", overflow="fold")
    for asset in assets.load_index().values():
        cached = "yes" if asset.is_cached() else "no"
        table.add_row(asset.name, asset.kind, f"{asset.bytes / 1e6:.1f}", cached, asset.licence, asset.what)
    console = Console()
    with console.capture() as drawn:  # printed by Python, so that a reader who leaves early is seen by `main`
        console.print(table)
    print(drawn.get())
    print(f"MB: what a download moves. Cache: {assets.cache_folder()}\n`jaxft assets NAME` fetches one.")
