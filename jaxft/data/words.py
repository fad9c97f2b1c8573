"""Raw text as words with character offsets, the units that a tagging model labels.

    U.S. envoy Mary-Ann O'Neill didn't pay $1,250.50 at AT&T's office.
    U.S.|envoy|Mary-Ann|O'Neill|did|n't|pay|$|1,250.50|at|AT&T|'s|office|.

One rule, close to the way news corpora were cut. Dotted abbreviations, initials before a name and titles keep their
full stop; numbers keep inner points, commas, colons and slashes; words keep inner hyphens, apostrophes, `&`, `/` and
`_`, but a final 's, 'm, 'd, 've, 're, 'll or n't stands apart; every other sign is a word of its own, and so is each
Han character. Other scripts without spaces (Thai, Japanese kana) are not cut: give such text as a list of words.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Word(NamedTuple):
    """text[start:end] of the text it was cut from."""

    text: str
    start: int
    end: int


# Everything but spaces, signs and Han belongs to a word. Not \w: it leaves out the vowel signs of Indic scripts.
_SIGN = (
    r"!-/:-@\[-^`{-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8\u00bb\u00bf\u00d7\u00f7"
    r"\u2010-\u2027\u2030-\u205e\u20a0-\u20cf\u2190-\u2bff\u3001-\u3020\u30fb"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\U0001f000-\U0001faff"
)
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_CHAR = rf"[^\s{_SIGN}{_HAN}]"
_LETTER = r"[^\W\d_]"
_ENDING = rf"['’](?:[sSmMdD]|ve|re|ll|VE|RE|LL)(?!{_CHAR})"
_NOT = rf"[nN]['’][tT](?!{_CHAR})"

_WORD = re.compile(
    rf"""
    (?:https?://|www\.)[^\s<>"]*[^\s<>"'.,;:!?)\]]           # addresses
  | (?<!{_CHAR})(?:{_LETTER}\.){{2,}}                        # U.S.
  | (?<!{_CHAR})[A-Z]\.(?=\s+[A-Z])                          # J. Smith
  | (?<!{_CHAR})(?:Mr|Mrs|Ms|Dr|St|Prof|Gen|Sen|Gov|Jr|Sr)\.(?=\s)
  | \d+(?:[.,:/]\d+){{1,16}}(?!{_CHAR})                        # 1,250.50  10:30  6/4
  | {_ENDING} | {_NOT}
  | {_CHAR}+?(?={_NOT})
  | {_CHAR}+(?:(?!{_ENDING})[-'’&/_\u2010\u2011]{_CHAR}+)*
  | [{_HAN}]
  | \.\.+ | --+
  | \S
    """,
    re.VERBOSE,
)


def split(text: str) -> list[Word]:
    """The words of a text, in order; none where it is blank."""
    return [Word(match.group(), *match.span()) for match in _WORD.finditer(text)]


def joined(words: list[str]) -> tuple[str, list[Word]]:
    """Words given as a list: the text that they make, joined by single spaces, and where each stands in it."""
    found, at = [], 0
    for word in words:
        found.append(Word(word, at, at + len(word)))
        at += len(word) + 1
    return " ".join(words), found
