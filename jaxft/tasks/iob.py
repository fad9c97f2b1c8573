"""Tags of words inside, outside and at the beginning of entities: which scheme a file uses, and its tags as IOB2.

    words   West    Indian  Simmons  of  Leicester  Essex
    IOB2    B-MISC  I-MISC  B-PER    O   B-ORG      B-ORG     every entity opens with B
    IOB1    I-MISC  I-MISC  I-PER    O   I-ORG      B-ORG     B only between neighbours of one type
    IOBES   B-MISC  E-MISC  S-PER    O   S-ORG      S-ORG     E ends, S stands alone; BILOU writes L and U

The scheme is a property of a whole file (Ramshaw & Marcus 1995 for IOB1). Tags that fit no scheme are problems with
their line, never mended. BMEWO and bare class tags without a prefix are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from jaxft.data.listing import Listing
from jaxft.errors import Problems

Where = Callable[[int, int], str]  # (row, word) -> "file:line"
Span = tuple[str, int, int]  # type, first word, word after the last

_IOBES = {"S": "B", "E": "I", "B": "B", "I": "I"}
_BILOU = {"U": "B", "L": "I", "B": "B", "I": "I"}


def spans(tags: Sequence[str]) -> list[Span]:
    """Entities of IOB2 tags as (type, start, end), end exclusive.

    An I that continues nothing opens an entity, as in the conlleval script.
    """
    found: list[Span] = []
    start, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.append((kind, start, i))
            kind = ""
        if prefix != "O" and not kind:
            start, kind = i, name
    return found


def repair(tags: Sequence[str]) -> list[str]:
    """Tags with every I that continues no entity of its type turned into B: what `spans` sees, as strict IOB2."""
    mended, before = [], "O"
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            tag = "B-" + tag[2:]
        mended.append(tag)
        before = tag
    return mended


def to_iob2(rows: Sequence[Sequence[str]], where: Where, problems: Problems, path: str) -> list[list[str]]:
    """All tag rows of one file as IOB2; problems with file:line for tags that fit no scheme.

    rows: one list of tags a sentence. where: line of a word. path: the file, for remarks about it as a whole.
    """
    with Listing(problems, path) as listing:
        _check_form(rows, where, listing)
        scheme = _detect(rows) if not listing.count else "IOB2"
        if scheme == "IOB1":
            opened = sum(tag[0] == "I" for row in rows for tag in _openers(row))
            what = f"tags are IOB1: {opened:,} entities open with I-, and B- only separates neighbours of one type"
            problems.warn(path, what, "read as such; write B- at every start to make it IOB2")
            return [repair(row) for row in rows]
        if scheme in ("IOBES", "BILOU"):
            return _from_closed(rows, scheme, where, listing)
        if not listing.count:
            _check_orphans(rows, where, listing)
    return [list(row) for row in rows]


def _check_form(rows: Sequence[Sequence[str]], where: Where, listing: Listing) -> None:
    """Every tag is O or PREFIX-TYPE with a prefix of one of the schemes."""
    counts = Counter(tag for row in rows for tag in row)
    known = set("BIESLU")
    bad = {tag for tag in counts if tag != "O" and not (tag[:1] in known and tag[1:2] == "-" and len(tag) > 2)}
    for i, j, tag in _tags(rows) if bad else ():
        if tag in bad:
            listing.add(
                where(i, j), f"tag {tag!r} is neither O nor B-TYPE or I-TYPE (nor E-, S-, L-, U-)", _form_fix(tag)
            )
    prefixes = {tag[0] for tag in counts if tag not in bad and tag != "O"}
    if prefixes & set("ES") and prefixes & set("LU"):
        what = f"tags mix IOBES (E-, S-) with BILOU (L-, U-): prefixes {', '.join(sorted(prefixes))}"
        listing.add(listing.path, what, "use one scheme throughout")


def _form_fix(tag: str) -> str:
    if tag.strip().upper() == "O":
        return "write O"
    if tag[:1].upper() in "BIESLU" and tag[1:2] in ("-", "_") and len(tag) > 2:
        return f"write {tag[0].upper()}-{tag[2:]}"
    return "the last column must hold the tags"


def _detect(rows: Sequence[Sequence[str]]) -> str:
    """IOB1, IOB2, IOBES or BILOU. IOB1: an entity opens with I-, and each B- directly follows an entity of its type."""
    prefixes = {tag[0] for row in rows for tag in row}
    if prefixes & set("ES"):
        return "IOBES"
    if prefixes & set("LU"):
        return "BILOU"
    needless = any(
        tag[0] == "B" and before[2:] != tag[2:] for row in rows for before, tag in zip(["O", *row], row, strict=False)
    )
    opens_with_i = any(tag[0] == "I" for row in rows for tag in _openers(row))
    return "IOB1" if opens_with_i and not needless else "IOB2"


def _openers(row: Sequence[str]) -> Iterable[str]:
    """The tags at which an entity opens."""
    return (tag for before, tag in zip(["O", *row], row, strict=False) if tag != "O" and _opens(before, tag))


def _opens(before: str, tag: str) -> bool:
    return tag[0] != "I" or before[2:] != tag[2:]


def _check_orphans(rows: Sequence[Sequence[str]], where: Where, listing: Listing) -> None:
    for i, row in enumerate(rows):
        for j, (before, tag) in enumerate(zip(["O", *row], row, strict=False)):
            if tag[0] == "I" and _opens(before, tag):
                after = f"after {before}" if j else "at the start of a sentence"
                listing.add(
                    where(i, j), f"{tag} {after} continues no entity", f"write B-{tag[2:]}, or tag the word before"
                )


def _from_closed(rows: Sequence[Sequence[str]], scheme: str, where: Where, listing: Listing) -> list[list[str]]:
    """IOBES or BILOU as IOB2; every entity must be closed (E or L) or a single (S or U)."""
    prefixes = _IOBES if scheme == "IOBES" else _BILOU
    last, single = ("E", "S") if scheme == "IOBES" else ("L", "U")
    for i, row in enumerate(rows):
        opened = ""  # type of the entity that waits for its end
        for j, tag in enumerate([*row, "O"]):
            prefix, _, kind = tag.partition("-")
            if opened and not (prefix in ("I", last) and kind == opened):
                listing.add(
                    where(i, j - 1),
                    f"{row[j - 1]} opens an entity that is not closed",
                    _close_fix(row[j - 1], last, single),
                )
            elif not opened and prefix in ("I", last):
                before = row[j - 1] if j else "the start of a sentence"
                listing.add(
                    where(i, j),
                    f"{tag} after {before} continues no entity",
                    f"write B-{kind} before it, or {single}-{kind}",
                )
            opened = kind if prefix in ("B", "I") else ""
    return [[tag if tag == "O" else prefixes.get(tag[0], "B") + tag[1:] for tag in row] for row in rows]


def _close_fix(tag: str, last: str, single: str) -> str:
    return f"write {single if tag[0] == 'B' else last}-{tag[2:]}"


def _tags(rows: Sequence[Sequence[str]]) -> Iterable[tuple[int, int, str]]:
    return ((i, j, tag) for i, row in enumerate(rows) for j, tag in enumerate(row))
