"""Tokens of real text with MiniLM's own tokenizer: words, cuts, windows, pairs, and the cache."""

from __future__ import annotations

import numpy as np
import pytest

from jaxft.data.encode import Encoded, encode, load_tokenizer
from jaxft.data.examples import Examples
from jaxft.errors import UserError

LONG = "The quick brown fox jumps over the lazy dog near Schleswig-Holstein; antidisestablishmentarianism fades. " * 3


@pytest.fixture(scope="session")
def tokenizer(minilm):
    return load_tokenizer(minilm)


@pytest.fixture(autouse=True)
def own_cache(tokenizer, tmp_path, monkeypatch):
    """Tokens are kept in a folder of this test's own."""
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path))
    return tmp_path


def examples(texts: list, pairs: list[str] | None = None) -> Examples:
    return Examples(texts, pairs, None, [f"a.csv:{line}" for line in range(2, 2 + len(texts))], "a.csv", "0" * 64)


def pieces(data: Encoded, column: str = "tokens") -> list[list[int]]:
    values = getattr(data, column)
    return [values[a:b].tolist() for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)]


@pytest.fixture(scope="session")
def sentences(conll2003) -> list[list[str]]:
    """The words of 200 real sentences."""
    blocks = conll2003["train"].read_text("utf-8").split("\n\n")[1:201]
    return [[line.split()[0] for line in block.splitlines() if line.strip()] for block in blocks]


# --- text ------------------------------------------------------------------------------------------------------------


def test_text_has_the_tokens_of_the_tokenizer(tokenizer):
    texts = ["Hello, world!", "", "naïve café — 12:30", "日本"]
    data = encode(examples(texts), tokenizer, max_tokens=32, overflow="truncate")
    assert pieces(data) == tokenizer(texts)["input_ids"]
    assert data.lengths.tolist() == [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert data.example.tolist() == [0, 1, 2, 3] and not data.window.any() and (data.words_at == -1).all()


def test_pairs_have_two_types(tokenizer):
    data = encode(examples(["who?"], ["the dog"]), tokenizer, max_tokens=32, overflow="truncate")
    expected = tokenizer(["who?"], ["the dog"])
    assert pieces(data) == expected["input_ids"] and pieces(data, "types") == expected["token_type_ids"]
    assert set(data.types.tolist()) == {0, 1}


def test_more_examples_than_a_chunk_keep_their_order(tokenizer):
    texts = [str(number) for number in range(2500)]
    data = encode(examples(texts), tokenizer, max_tokens=16, overflow="truncate")
    assert data.num_examples == 2500 and data.example.tolist() == list(range(2500))
    assert pieces(data)[2049] == tokenizer("2049")["input_ids"]


# --- words -----------------------------------------------------------------------------------------------------------


def test_the_picture_of_the_docstring(tokenizer):
    data = encode(examples([["EU", "rejects", "German", "call"]]), tokenizer, max_tokens=32, overflow="truncate")
    assert tokenizer.convert_ids_to_tokens(data.tokens) == ["[CLS]", "eu", "rejects", "german", "call", "[SEP]"]
    assert data.words_at.tolist() == [-1, 0, 1, 2, 3, -1]


def test_each_word_of_real_sentences_is_predicted_at_its_first_sub_token(tokenizer, sentences):
    data = encode(examples(sentences), tokenizer, max_tokens=512, overflow="truncate")
    for words, tokens, at in zip(sentences, pieces(data), pieces(data, "words_at"), strict=True):
        parts = [tokenizer.tokenize(word) for word in words]
        assert tokens == tokenizer.convert_tokens_to_ids(["[CLS]", *sum(parts, []), "[SEP]"])
        starts = 1 + np.cumsum([0, *map(len, parts)])[:-1]
        expected = np.full(len(tokens), -1)
        expected[starts] = np.arange(len(words))
        assert at == expected.tolist()


# --- too long: cut ---------------------------------------------------------------------------------------------------


def test_truncation_keeps_the_beginning_and_tells_the_uncut_length(tokenizer):
    data = encode(examples([LONG, "short"]), tokenizer, max_tokens=16, overflow="truncate")
    whole = tokenizer(LONG)["input_ids"]
    assert pieces(data)[0] == [*whole[:15], tokenizer.sep_token_id]
    assert data.lengths.tolist() == [len(whole), 3]


def test_refusal_names_lines_and_lengths(tokenizer):
    whole = len(tokenizer(LONG)["input_ids"])
    with pytest.raises(UserError, match=rf"2 of 3 texts .* = 16: a.csv:2 \({whole} tokens\), a.csv:4 ") as caught:
        encode(examples([LONG, "short", LONG]), tokenizer, max_tokens=16, overflow="error")
    assert "data.overflow" in caught.value.problems[0].fix


# --- too long: windows -----------------------------------------------------------------------------------------------


def test_windows_overlap_and_cover_the_text(tokenizer):
    data = encode(examples(["short", LONG]), tokenizer, max_tokens=24, overflow="window")
    assert data.example.tolist() == [0, *[1] * (len(data.example) - 1)]
    assert data.window.tolist() == [0, *range(len(data.window) - 1)]
    assert data.piece_lengths.max() <= 24 and len(data.window) > 3
    inner, covered = [piece[1:-1] for piece in pieces(data)[1:]], []
    for piece in inner:
        overlap = 24 // 4 if covered else 0
        assert covered[len(covered) - overlap :] == piece[:overlap]
        covered += piece[overlap:]
    assert covered == tokenizer(LONG, add_special_tokens=False)["input_ids"]


def test_each_word_is_predicted_in_one_window_at_its_first_sub_token(tokenizer):
    words = LONG.split()
    data = encode(examples([words]), tokenizer, max_tokens=24, overflow="window")
    firsts = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)[0]) for word in words]
    found = {int(word): int(data.tokens[at]) for at, word in enumerate(data.words_at) if word >= 0}
    assert (data.words_at >= 0).sum() == len(words)  # once each
    assert [found[number] for number in range(len(words))] == firsts


@pytest.mark.parametrize("max_tokens", [16, 20, 33])
def test_words_that_straddle_windows_are_predicted_once_at_their_first_sub_token(tokenizer, max_tokens):
    words = ["antidisestablishmentarianism", "floccinaucinihilipilification", "a"] * 8
    data = encode(examples([words]), tokenizer, max_tokens=max_tokens, overflow="window")
    firsts = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)[0]) for word in words]
    at = np.flatnonzero(data.words_at >= 0)
    assert sorted(data.words_at[at].tolist()) == list(range(len(words)))
    assert all(data.tokens[place] == firsts[data.words_at[place]] for place in at)


def test_windows_of_pairs_fit_and_cover_both_texts(tokenizer):
    data = encode(examples([LONG], ["where does the fox live?"]), tokenizer, max_tokens=32, overflow="window")
    assert data.piece_lengths.max() <= 32
    wanted = set(tokenizer(LONG)["input_ids"]) | set(tokenizer("where does the fox live?")["input_ids"])
    assert set(data.tokens.tolist()) == wanted


# --- the cache -------------------------------------------------------------------------------------------------------


class Deaf:
    """A tokenizer that may be asked for its settings but not for tokens."""

    def __init__(self, tokenizer):
        self.backend_tokenizer = tokenizer.backend_tokenizer

    def __call__(self, *_, **__):
        raise AssertionError("tokenised again")


def test_the_same_text_is_tokenised_once(tokenizer):
    first = encode(examples(["one two", "three"]), tokenizer, max_tokens=16, overflow="truncate")
    again = encode(examples(["one two", "three"]), Deaf(tokenizer), max_tokens=16, overflow="truncate")
    for name in Encoded.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


@pytest.mark.parametrize(
    ("texts", "pairs", "how"),
    [
        (["one", "two three"], None, {}),
        (["one two", "three"], ["", ""], {}),
        ([["one", "two"], ["three"]], None, {}),
        (["one two", "three"], None, {"max_tokens": 17}),
        (["one two", "three"], None, {"overflow": "window"}),
    ],
    ids=["text", "pairs", "words", "max_tokens", "overflow"],
)
def test_anything_else_is_tokenised_anew(tokenizer, texts, pairs, how):
    settings = {"max_tokens": 16, "overflow": "truncate"}
    encode(examples(["one two", "three"]), tokenizer, **settings)
    with pytest.raises(AssertionError, match="tokenised again"):
        encode(examples(texts, pairs), Deaf(tokenizer), **{**settings, **how})


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", b"not a zip"])
def test_a_damaged_file_is_made_again(tokenizer, own_cache, damage):
    first = encode(examples(["one"]), tokenizer, max_tokens=16, overflow="truncate")
    (path,) = (own_cache / "tokens").iterdir()
    path.write_bytes(damage)
    again = encode(examples(["one"]), tokenizer, max_tokens=16, overflow="truncate")
    np.testing.assert_array_equal(again.tokens, first.tokens)
    encode(examples(["one"]), Deaf(tokenizer), max_tokens=16, overflow="truncate")  # mended


def test_without_the_cache_nothing_is_left(tokenizer, own_cache):
    encode(examples(["one"]), tokenizer, max_tokens=16, overflow="truncate", cache=False)
    assert list(own_cache.iterdir()) == []


def test_a_folder_without_a_tokenizer_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match=r"tokenizer\.json or vocab\.txt"):
        load_tokenizer(tmp_path)
