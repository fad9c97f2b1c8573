"""Who searches: the explorer and its rivals, by name, all in the same world and the same ledger."""

from __future__ import annotations

import difflib
import importlib.util
from contextlib import suppress
from functools import partial

from jaxft import prng
from jaxft.errors import Problems
from jaxft.explore.account import Account, Spent
from jaxft.explore.explorer import explore
from jaxft.explore.rivals import RIVALS, Rival

MCTS = "mcts"
EXPLORERS = {MCTS: False, "mcts_by_segment": True}
"""Whether they settle."""
SEARCHERS = {
    MCTS: Rival(explore, "tree search with a model of what segments bring", "Coulom 2006; Thompson 1933"),
    "mcts_by_segment": Rival(
        partial(explore, settles=True), "the same, settling one segment after the other", "Coulom 2006; Thompson 1933"
    ),
    **RIVALS,
}


def check(name: str, where: str, problems: Problems) -> None:
    """Adds a problem where there is no searcher of that name, or its library is missing."""
    if name not in SEARCHERS:
        near = difflib.get_close_matches(name, SEARCHERS, n=1)
        fix = f"did you mean `{near[0]}`?" if near else f"one of {', '.join(SEARCHERS)}"
        problems.add(where, f"there is no searcher {name!r}", fix)
    elif name.startswith("tpe") and importlib.util.find_spec("optuna") is None:
        problems.add(where, f"{name} needs Optuna", 'pip install "jaxft[explore]"')


def play(name: str, account: Account, words: prng.Words) -> Account:
    """Lets a searcher spend an account; words: those of the stream "explore". No two searchers draw the same."""
    with suppress(Spent):
        SEARCHERS[name].search(account, prng.path_words(words, name))
    return account
