"""Tag schemes: spans survive every way of writing them, and tags that fit none are named with their line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from jaxft import tasks
from jaxft.data.read import read
from jaxft.errors import Problems
from jaxft.recipe import Data
from jaxft.tasks import iob


@st.composite
def sentences(draw) -> tuple[int, list[iob.Span]]:
    """(words, entities that do not overlap)."""
    entities, place = [], 0
    for gap, length, kind in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(["PER", "LOC", "A-B"])), max_size=6)
    ):
        entities.append((kind, place + gap, place + gap + length))
        place += gap + length
    return place + draw(st.integers(0, 2)), entities


def write(scheme: str, words: int, entities: list[iob.Span]) -> list[str]:
    """The entities of a sentence in a scheme, by the scheme's definition."""
    tags = ["O"] * words
    for kind, start, end in entities:
        for i in range(start, end):
            tags[i] = f"{letter(scheme, i, start, end, kind, entities)}-{kind}"
    return tags


def letter(scheme: str, i: int, start: int, end: int, kind: str, entities: list[iob.Span]) -> str:
    if scheme == "IOB1":
        touches = any(other == kind and stop == start for other, _, stop in entities)
        return "B" if i == start and touches else "I"
    if scheme in ("IOBES", "BILOU"):
        single, last = ("S", "E") if scheme == "IOBES" else ("U", "L")
        if end - start == 1:
            return single
        if i == end - 1:
            return last
    return "B" if i == start else "I"


def convert(rows: list[list[str]]) -> tuple[list[list[str]], Problems]:
    problems = Problems()
    return iob.to_iob2(rows, lambda row, word: f"f:{row + 1}.{word + 1}", problems, "f"), problems


@settings(deadline=None)
@given(st.lists(sentences(), max_size=5), st.sampled_from(["IOB1", "IOB2", "IOBES", "BILOU"]))
def test_spans_survive_every_scheme(drawn, scheme):
    rows, problems = convert([write(scheme, words, entities) for words, entities in drawn])
    assert not problems.errors
    assert rows == [write("IOB2", words, entities) for words, entities in drawn]
    assert [iob.spans(row) for row in rows] == [entities for _, entities in drawn]


tag_rows = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=8)


@settings(deadline=None)
@given(tag_rows)
def test_spans_and_repair_agree_with_seqeval(tags):
    expected = [(kind, start, end + 1) for kind, start, end in get_entities(tags)]
    assert iob.spans(tags) == expected == iob.spans(iob.repair(tags))
    assert iob.repair(iob.repair(tags)) == iob.repair(tags)


def test_repair():
    assert iob.repair(["O", "I-X", "I-X", "I-Y", "B-Y", "I-X"]) == ["O", "B-X", "I-X", "B-Y", "B-Y", "B-X"]


def test_iob1_is_read_and_said():
    rows, problems = convert([["I-X", "I-X", "B-X", "O"], ["I-Y"]])
    assert rows == [["B-X", "I-X", "B-X", "O"], ["B-Y"]] and not problems.errors
    assert "tags are IOB1: 2 entities open with I-" in problems.warnings[0].what


def test_orphans_of_an_iob2_file_are_errors():
    rows, problems = convert([["B-X", "I-X", "O"], ["I-X", "O", "I-Y"], ["B-X", "I-Y"]])
    assert [str(problem) for problem in problems.errors] == [
        "f:2.1: I-X at the start of a sentence continues no entity — write B-X, or tag the word before",
        "f:2.3: I-Y after O continues no entity — write B-Y, or tag the word before",
        "f:3.2: I-Y after B-X continues no entity — write B-Y, or tag the word before",
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (["B-X", "O", "S-X"], ["f:1.1: B-X opens an entity that is not closed — write S-X"]),
        (["B-X", "I-X", "S-X"], ["f:1.2: I-X opens an entity that is not closed — write E-X"]),
        (["S-X", "E-X"], ["f:1.2: E-X after S-X continues no entity — write B-X before it, or S-X"]),
        (
            ["L-X", "U-X"],
            ["f:1.1: L-X after the start of a sentence continues no entity — write B-X before it, or U-X"],
        ),
    ],
)
def test_broken_iobes_and_bilou(row, expected):
    assert [str(problem) for problem in convert([row])[1].errors] == expected


@pytest.mark.parametrize(
    ("tag", "fix"),
    [
        ("B_X", "write B-X"),
        ("b-X", "write B-X"),
        ("o", "write O"),
        ("B-", "the last column"),
        ("M-X", "the last column"),
        ("", "the"),
    ],
)
def test_unknown_tags(tag, fix):
    _, problems = convert([["O", "B-X"], ["O", tag]])
    assert [problem.where for problem in problems.errors] == ["f:2.2"]
    assert f"tag {tag!r} is neither O nor" in problems.errors[0].what and problems.errors[0].fix.startswith(fix)


def test_mixed_schemes():
    _, problems = convert([["S-X", "U-X"]])
    assert "tags mix IOBES (E-, S-) with BILOU (L-, U-): prefixes S, U" in problems.errors[0].what


def test_conll2003_sentences_and_entities(conll2003):
    counts = {}
    for split in conll2003:
        problems, spec = Problems(), Data()
        examples = tasks.get("tag").parse(read(f"conll2003:{split}", spec, problems), spec, problems)
        assert not problems.errors and not problems.warnings
        counts[split] = len(examples), sum(len(iob.spans(tags)) for tags in examples.labels or [])
    assert counts == {"train": (14_041, 23_499), "dev": (3_250, 5_942), "test": (3_453, 5_648)}
