"""Noise: at its rate, where it may be, from addresses alone.

Counts of random decisions lie within 4.5 standard errors of the binomial, which right ones leave with probability 7e-6;
the seeds are fixed, so a test that passes goes on passing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32

from jaxft import prng
from jaxft.data.batches import Dataset, TrainBatches
from jaxft.data.encode import Encoded, encode, load_tokenizer
from jaxft.data.examples import Examples
from jaxft.data.noise import Changes, Draws, Noisy, TokenKinds, disturb, misspell, misspelt, read_confusion, relabel
from jaxft.data.order import Order
from jaxft.errors import Problems, UserError
from jaxft.recipe import Data, Noise
from jaxft.tasks import get

WORDS = prng.stream("noise", 0)
DRAWS = Draws(WORDS, 0)
CLS, SEP, MASK, FIRST = 101, 102, 103, 1000
KINDS = TokenKinds(np.array([0, CLS, SEP, MASK]), np.arange(FIRST, 30_000), MASK)
TOKEN_RATES = ("token_replace", "token_mask", "token_swap", "token_drop")
ALL = Noise(label=0.2, token_drop=0.1, token_swap=0.2, token_mask=0.1, token_replace=0.2, typo=0.3)


def noise_of(**rates: Any) -> Noise:
    return Noise(**rates)


def is_about(count: int | np.integer[Any], of: int | np.integer[Any], rate: float) -> bool:
    return abs(count - of * rate) <= 4.5 * np.sqrt(of * rate * (1 - rate))


def sentences(lengths: list[int], *, tagged: bool = False, paired: bool = False) -> Dataset:
    """Pieces [CLS] a b c ... [SEP] of so many ordinary tokens, all of them different: 1000 + place in the data.

    tagged: each is a word whose target is its token. paired: each has a second text, as long, of type 1.
    """
    rows, types, words = [], [], []
    for length in lengths:
        text = [FIRST] * length + [SEP]
        rows.append([CLS, *text, *(text if paired else [])])
        types.append([0] * (length + 2) + [1] * (len(rows[-1]) - length - 2))
        words.append([-1, *range(length), -1] if tagged else [-1] * len(rows[-1]))
    tokens = np.concatenate(rows)
    tokens = np.where(tokens == FIRST, FIRST + np.arange(len(tokens)), tokens).astype(np.int32)
    sizes = np.array(list(map(len, rows)))
    encoded = Encoded(
        tokens,
        np.concatenate(types).astype(np.int32),
        np.concatenate(words).astype(np.int32),
        np.concatenate([[0], np.cumsum(sizes)]),
        np.arange(len(rows), dtype=np.int32),
        np.zeros(len(rows), np.int32),
        sizes.astype(np.int32),
    )
    if tagged:
        return Dataset(encoded, np.where(encoded.words_at >= 0, tokens, -1).astype(np.int32), True)
    return Dataset(encoded, np.arange(len(rows), dtype=np.int32) % 3, False)


def pieces(data: Dataset) -> list[np.ndarray]:
    return np.split(data.encoded.tokens, data.encoded.offsets[1:-1])


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.6])
@pytest.mark.parametrize("kind", TOKEN_RATES)
def test_tokens_are_hit_at_the_rate(kind: str, rate: float):
    data = sentences([40] * 500)
    noisy, changes = disturb(data, noise_of(**{kind: rate}), KINDS, DRAWS)
    [(changed, of)] = changes.values()
    assert is_about(changed.sum(), of.sum(), rate)
    able = 39 if kind == "token_swap" else 40
    assert of.tolist() == [able] * 500
    before, after = data.encoded.tokens, noisy.encoded.tokens
    if kind == "token_drop":
        found = len(before) - len(after)
    elif kind == "token_mask":
        found = (after == MASK).sum()
    elif kind == "token_swap":  # made from left to right: the next token moves here
        found = ((after == before + 1) & (after >= FIRST)).sum()
    else:
        found = (after != before).sum()
    assert found == changed.sum()


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("rates", [{kind: 0.9} for kind in TOKEN_RATES] + [dict.fromkeys(TOKEN_RATES, 0.5)], ids=str)
def test_special_tokens_stay_and_texts_do_not_mix(rates: dict[str, float], paired: bool):
    data = sentences([1, 2, 3, 30, 31], paired=paired)
    noisy, _ = disturb(data, noise_of(**rates), KINDS, DRAWS)
    assert len(pieces(noisy)) == 5 and noisy.encoded.lengths.tolist() == data.encoded.lengths.tolist()
    types = np.split(noisy.encoded.types, noisy.encoded.offsets[1:-1])
    for before, after, of in zip(pieces(data), pieces(noisy), types, strict=True):
        assert after[0] == CLS and after[-1] == SEP and (after == CLS).sum() == 1
        assert (after == SEP).sum() == (before == SEP).sum() and not (after == 0).any()
        texts = [np.split(tokens, np.flatnonzero(tokens == SEP)) for tokens in (before[1:], after[1:])]
        assert of.tolist() == np.repeat([0, 1], [len(texts[1][0]) + 2, len(after) - len(texts[1][0]) - 2]).tolist()
        if "token_replace" not in rates:
            for text, left in zip(*texts, strict=True):
                assert set(left[left != MASK]) <= set(text)


def test_swaps_stay_in_a_piece_and_a_text_without_special_tokens_between(encoded):
    halves = (np.arange(80) % 8 >= 5).astype(np.int32)  # pieces of 8 tokens: 5 of a text, 3 of the second one
    held = dataclasses.replace(encoded([8] * 10), types=halves)
    noisy, (swaps,) = _swaps(Dataset(held, np.zeros(10, np.int32), False))
    assert swaps.of.tolist() == [6] * 10 and swaps.changed.sum() > 40
    groups = np.cumsum(np.diff(halves, prepend=0) != 0)
    for group in range(groups[-1] + 1):
        assert set(noisy.encoded.tokens[groups == group]) == set(held.tokens[groups == group])


def _swaps(data: Dataset) -> tuple[Dataset, list[Changes]]:
    noisy, changes = disturb(data, Noise(token_swap=0.9), KINDS, DRAWS)
    return noisy, list(changes.values())


@given(st.lists(st.integers(0, 8), min_size=1, max_size=30))
def test_swaps_are_made_from_left_to_right(lengths: list[int]):
    """Against a loop over places."""
    data = sentences(lengths)
    noisy, changes = disturb(data, Noise(token_swap=0.5), KINDS, DRAWS)
    encoded = data.encoded
    position = np.arange(len(encoded.tokens)) - np.repeat(encoded.offsets[:-1], encoded.piece_lengths)
    chance, _ = DRAWS.bits("token_swap", np.repeat(encoded.example, encoded.piece_lengths), position)
    expected, swaps = encoded.tokens.copy(), 0
    for at in np.flatnonzero(chance < 2**31):
        if encoded.tokens[at] >= FIRST and encoded.tokens[at + 1] >= FIRST:
            expected[[at, at + 1]] = expected[[at + 1, at]]
            swaps += 1
    np.testing.assert_array_equal(noisy.encoded.tokens, expected)
    assert changes["swapped"].changed.sum() == swaps


def test_a_piece_keeps_one_ordinary_token_if_it_had_one():
    data = sentences([0, 1, 2, 5] * 100)
    noisy, changes = disturb(data, Noise(token_drop=0.999), KINDS, DRAWS)
    left = [(piece >= FIRST).sum() for piece in pieces(noisy)]
    assert left[0::4] == [0] * 100 and left[1::4] == [1] * 100 and min(left[2::4]) == min(left[3::4]) == 1
    np.testing.assert_array_equal(changes["dropped"].changed, np.array([0, 1, 2, 5] * 100) - left)
    places = [
        int(np.flatnonzero(before == after[1])[0]) for before, after in zip(pieces(data), pieces(noisy), strict=True)
    ]
    assert set(places[3::4]) == {1, 2, 3, 4, 5}  # not the first one always


def test_targets_and_words_travel_with_their_tokens():
    data = sentences([20] * 50, tagged=True)
    noisy, changes = disturb(data, Noise(token_drop=0.3, token_swap=0.4), KINDS, DRAWS)
    ordinary = noisy.encoded.tokens >= FIRST
    np.testing.assert_array_equal(noisy.targets, np.where(ordinary, noisy.encoded.tokens, -1))
    first = np.repeat(data.encoded.offsets[:-1], noisy.encoded.piece_lengths) + 1
    np.testing.assert_array_equal(noisy.encoded.words_at[ordinary], (noisy.encoded.tokens - FIRST - first)[ordinary])
    assert (noisy.targets >= 0).sum() == 1000 - changes["dropped"].changed.sum() < 800
    assert (np.diff(noisy.encoded.tokens[ordinary]) < 0).any()


def test_replaced_tokens_become_any_other_ordinary_one():
    kinds = dataclasses.replace(KINDS, ordinary=np.array([1001, 1002, 1005, 1010, 2000]))
    data = sentences([2000] * 10)
    tokens = np.where(data.encoded.tokens >= FIRST, 1005, data.encoded.tokens)
    tokens[5] = 777  # such as [UNK]: not ordinary, and no special place either
    data = dataclasses.replace(data, encoded=dataclasses.replace(data.encoded, tokens=tokens))
    noisy, _ = disturb(data, Noise(token_replace=0.999), kinds, DRAWS)
    after = noisy.encoded.tokens[data.encoded.tokens == 1005]
    counts = {token: int((after == token).sum()) for token in (1001, 1002, 1010, 2000)}
    assert sum(counts.values()) + (after == 1005).sum() == 19_999
    assert all(is_about(count, sum(counts.values()), 0.25) for count in counts.values())
    assert noisy.encoded.tokens[5] in kinds.ordinary


def test_no_rate_moves_another_kinds_decisions():
    data = sentences([30] * 100)

    def tokens(**rates: float) -> np.ndarray:
        return disturb(data, noise_of(**rates), KINDS, DRAWS)[0].encoded.tokens

    replaced, swapped, dropped = tokens(token_replace=0.3), tokens(token_swap=0.3), tokens(token_drop=0.3)
    masked = tokens(token_mask=0.3)
    both = tokens(token_replace=0.3, token_mask=0.3)
    np.testing.assert_array_equal(both, np.where(masked == MASK, MASK, replaced))
    both = tokens(token_swap=0.3, token_drop=0.3)
    special = swapped < FIRST
    np.testing.assert_array_equal(both, swapped[special | np.isin(swapped, dropped)])
    # A higher rate of one kind keeps its own hits.
    assert set(tokens(token_drop=0.4)) < set(dropped)


def test_kinds_and_epochs_and_seeds_decide_independently():
    """The share of tokens that two of them both hit at a half is a quarter."""
    example, place = np.divmod(np.arange(40_000), 200)
    names = ("label", *TOKEN_RATES, "typo", "typo letter")
    hits = [DRAWS.bits(name, example, place)[0] < 2**31 for name in names]
    hits += [Draws(WORDS, 1).bits("label", example, place)[0] < 2**31]
    hits += [Draws(prng.stream("noise", 1), 0).bits("label", example, place)[0] < 2**31]
    hits += [DRAWS.bits("label", example, place)[1] < 2**31]
    for number, one in enumerate(hits):
        assert is_about(one.sum(), 40_000, 0.5)
        for other in hits[:number]:
            assert is_about((one & other).sum(), 40_000, 0.25)


def test_decisions_never_change():
    """Golden values: whoever changes these changes what every noisy recipe trains on."""
    chance, choice = DRAWS.bits("token_drop", np.array([0, 0, 1, 5573]), np.array([0, 1, 0, (2 << 16) + 7]))
    assert chance.tolist() == GOLDEN["chance"] and choice.tolist() == GOLDEN["choice"]
    later = Draws(prng.stream("noise", 2**32 - 1), 3).bits("label", np.array([7]), np.array([0]))
    assert [int(word[0]) for word in later] == GOLDEN["later"]
    noise = Noise(token_drop=0.2, token_swap=0.2, token_mask=0.2, token_replace=0.2)
    tokens = disturb(sentences([12]), noise, KINDS, DRAWS)[0].encoded.tokens
    assert tokens.tolist() == GOLDEN["tokens"]
    found, _ = misspell(texts(["the quick brown fox jumps over the lazy dog"]), 0.5, DRAWS)
    assert found.texts == GOLDEN["texts"]


GOLDEN: dict[str, Any] = {
    "chance": [334828670, 2603563608, 3388630107, 1820303805],
    "choice": [3443494791, 4261841573, 948716307, 889661168],
    "later": [1073157573, 2759038576],
    "tokens": [101, 1001, 1002, 1003, 103, 1006, 17278, 1009, 1011, 23749, 102],
    "texts": ["the quick brown fox jump over ehe lzay dog"],
}


def test_bits_are_those_of_jax():
    """Keys by `jax.random.fold_in`, blocks by JAX's own Threefry."""
    key = jax.random.key(3, impl="threefry2x32")
    for name in ("jaxft/v1/noise", "token_drop"):
        digest = hashlib.sha256(name.encode()).digest()
        for word in (digest[:4], digest[4:8]):
            key = jax.random.fold_in(key, np.uint32(int.from_bytes(word, "big")))
    data = jax.random.key_data(jax.random.fold_in(key, np.uint32(9)))
    for example, place in ((0, 0), (5573, (2 << 16) + 7), (2**32 - 1, 2**32 - 1)):
        expected = threefry_2x32(data, np.array([example, place], np.uint32))
        found = Draws(prng.stream("noise", 3), 9).bits("token_drop", np.array([example]), np.array([place]))
        np.testing.assert_array_equal(np.concatenate(found), expected)


# --- labels ----------------------------------------------------------------------------------------------------------


def classes(number: int, count: int) -> Dataset:
    """`count` examples of `number` classes in turn."""
    data = sentences([1] * count)
    return dataclasses.replace(data, targets=np.arange(count, dtype=np.int32) % number)


@pytest.mark.parametrize("rate", [0.05, 0.4])
@pytest.mark.parametrize("number", [2, 5])
def test_labels_become_any_other_at_the_rate(number: int, rate: float):
    data = classes(number, 20_000)
    noisy, (changed, of) = relabel(data, number, rate, None, DRAWS)
    differ = noisy.targets != data.targets
    np.testing.assert_array_equal(changed, differ)
    assert of.tolist() == [1] * 20_000 and noisy.targets.dtype == np.int32
    assert noisy.encoded is data.encoded and data.targets[:3].tolist() == [0, 1, 2 % number]
    for true in range(number):
        mine = data.targets == true
        for other in range(number):
            expected = 1 - rate if other == true else rate / (number - 1)
            assert is_about((noisy.targets[mine] == other).sum(), mine.sum(), expected)


def test_a_confusion_matrix_is_followed():
    matrix = np.array([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    data = classes(3, 30_000)
    noisy, (changed, _) = relabel(data, 3, 0.0, matrix, DRAWS)
    for true, row in enumerate(matrix):
        mine = data.targets == true
        for other, rate in enumerate(row):
            assert is_about((noisy.targets[mine] == other).sum(), mine.sum(), rate)  # exact where 0 or 1
    np.testing.assert_array_equal(changed, noisy.targets != data.targets)


def test_what_has_no_probability_never_happens():
    """Not even where all 32 bits are 0, or 1."""

    class Ends(Draws):
        def bits(self, kind: str, example: np.ndarray, place: np.ndarray) -> prng.Words:
            ends = np.where(example % 2, 2**32 - 1, 0).astype(np.uint32)
            return ends, ends

    matrix = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]])
    noisy, _ = relabel(classes(3, 6), 3, 0.0, matrix, Ends(WORDS, 0))
    assert noisy.targets.tolist() == [1, 2, 2, 1, 0, 2]


def test_each_word_has_a_tag_of_its_own_noise():
    data = sentences([40] * 300, tagged=True)
    data = dataclasses.replace(
        data, targets=np.where(data.targets >= 0, data.encoded.words_at % 4, -1).astype(np.int32)
    )
    noisy, (changed, of) = relabel(data, 4, 0.3, None, DRAWS)
    at = data.targets >= 0
    assert (noisy.targets[~at] == -1).all() and of.tolist() == [40] * 300
    differ = (noisy.targets != data.targets)[at].reshape(300, 40)
    np.testing.assert_array_equal(changed, differ.sum(1))
    assert is_about(differ.sum(), 12_000, 0.3)
    assert is_about((differ[:, 1:] & differ[:, :-1]).sum(), 300 * 39, 0.09)  # neighbours agree no more than by chance
    assert set(noisy.targets[at]) == {0, 1, 2, 3}


def test_each_class_of_many_flips_by_itself():
    data = sentences([1] * 4000)
    gold = (np.arange(4000)[:, None] % np.array([2, 3, 5]) == 0).astype(np.float32)
    noisy, (changed, of) = relabel(dataclasses.replace(data, targets=gold), 3, 0.2, None, DRAWS)
    flips = noisy.targets != gold
    assert noisy.targets.dtype == np.float32 and set(np.unique(noisy.targets)) == {0, 1} and of.tolist() == [3] * 4000
    np.testing.assert_array_equal(changed, flips.sum(1))
    assert all(is_about(flips[gold == value].sum(), (gold == value).sum(), 0.2) for value in (0, 1))
    assert all(is_about((flips[:, a] & flips[:, b]).sum(), 4000, 0.04) for a, b in ((0, 1), (0, 2), (1, 2)))


# --- confusion files -------------------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    path = folder / "confusion.csv"
    path.write_text(text, "utf-8")
    return path


def test_a_confusion_file_is_read_in_the_order_of_the_labels(tmp_path: Path):
    path = write(tmp_path, '\ufeff,spam,ham,"a, b"\n\nspam, 0.5 ,0.25,0.25\nham,0,1,0\n"a, b",.1,.2,.7\n')
    expected = [[1, 0, 0], [0.25, 0.5, 0.25], [0.2, 0.1, 0.7]]
    np.testing.assert_array_equal(read_confusion(path, ("ham", "spam", "a, b")), expected)


BAD = {
    "": [("", "holds no confusion matrix", "first row")],
    ",ham,eggs\nham,1,0\nspam,0,1\n": [
        (":1", "first row of the confusion matrix lacks 'spam'", "the labels are ham, spam"),
        (":1", "first row of the confusion matrix names what is no label of the data: 'eggs'", "ham, spam"),
    ],
    ",ham,spam\nham,1,0\nham,1,0\n": [
        ("", "first column of the confusion matrix lacks 'spam'", "ham, spam"),
        ("", "first column of the confusion matrix has twice 'ham'", "ham, spam"),
    ],
    ",ham,spam\nham,0.8,0.1\nspam,0.5\n": [
        (":2", "the row of label 'ham' sums to 0.9, not 1", "what becomes of all 'ham'"),
        (":3", "the row of label 'spam' has 1 numbers, the first row 2 labels", "one probability"),
    ],
    ",ham,spam\nham,1.5,-0.5\nspam,nan,x\n": [
        (":2", "P(ham | ham) must be a number from 0 to 1, came '1.5'", "0.1"),
        (":3", "P(ham | spam) must be a number from 0 to 1, came 'nan'", "0.1"),
    ],
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_confusion_file_is_told_with_all_its_faults(tmp_path: Path, text: str):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_confusion(path, ("ham", "spam"))
    assert len(caught.value.problems) == len(BAD[text])
    for problem, (where, what, fix) in zip(caught.value.problems, BAD[text], strict=True):
        assert problem.where == f"{path}{where}" and what in problem.what and fix in problem.fix


def test_an_unreadable_confusion_file_is_one_clear_error(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.csv: no such file with a confusion matrix"):
        read_confusion(tmp_path / "none.csv", ("ham", "spam"))
    (tmp_path / "latin.csv").write_bytes(b",h\xe4m\n")
    with pytest.raises(UserError, match=r"latin\.csv: cannot be read as CSV in UTF-8"):
        read_confusion(tmp_path / "latin.csv", ("ham", "spam"))


# --- letters ---------------------------------------------------------------------------------------------------------


def texts(of: list, pairs: list[str] | None = None, labels: list | None = None) -> Examples:
    return Examples(of, pairs, labels, [f"a.csv:{line}" for line in range(2, 2 + len(of))], "a.csv", "0" * 64)


BITS = st.integers(0, 2**32 - 1)


@given(st.text(st.characters(categories=["L"]), min_size=2, max_size=12), BITS, BITS, BITS)
def test_a_typo_is_one_slip(word: str, kind: int, place: int, letter: int):
    found = misspelt(word, kind, place, letter)
    n = len(word)
    swaps = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(n - 1)}
    drops = {word[:i] + word[i + 1 :] for i in range(n)}
    doubles = {word[: i + 1] + word[i:] for i in range(n)}
    assert found != word
    if kind < 2**30:
        assert found in swaps or (found in doubles and len({letter.lower() for letter in word}) == 1)
    elif kind < 2**31:
        assert found in drops
    elif kind < 3 * 2**30:
        assert found in doubles
    else:
        [at] = [i for i in range(n) if found[i] != word[i]]
        assert found[at].lower() in "abcdefghijklmnopqrstuvwxyz" and found[at].lower() != word[at].lower()
        assert len(found) == n and found[at].isupper() == word[at].isupper()


def test_words_are_misspelt_at_the_rate_and_nothing_else_is_touched():
    text = "I saw 42 grey-blue cars, a Ford & 2 x VW_s (in São Paulo)!"
    data = texts([text] * 1000, ["b cd"] * 1000)
    found, (changed, of) = misspell(data, 0.25, DRAWS)
    words = {"saw", "grey", "blue", "cars", "Ford", "VW", "in", "São", "Paulo"}
    assert of.tolist() == [len(words) + 1] * 1000 and is_about(changed.sum(), 10_000, 0.25)
    skeleton = re.compile(r"[^\W\d_]+")
    differ = 0
    assert found.pairs is not None
    for one, pair in zip(found.texts, found.pairs, strict=True):
        assert skeleton.sub("w", one) == skeleton.sub("w", text) and pair.startswith("b ")
        runs = list(zip(skeleton.findall(text), skeleton.findall(one), strict=True))
        assert all(before == after for before, after in runs if before not in words)
        differ += sum(before != after for before, after in runs) + (pair != "b cd")
    assert differ == changed.sum() and data.texts[0] == text
    kinds = [len(one) - len(text) for one in found.texts if sum(map(str.__ne__, one.split(), text.split())) == 1]
    assert {-1, 0, 1} <= set(kinds)


def test_every_letter_of_a_word_may_slip():
    found, _ = misspell(texts(["abcdefgh"] * 20_000), 0.1, DRAWS)
    dropped = [set("abcdefgh") - set(one) for one in found.texts if len(one) == 7]
    counts = [sum(letter in letters for letters in dropped) for letter in "abcdefgh"]
    assert is_about(len(dropped), 20_000, 0.1 / 4) and all(is_about(count, len(dropped), 1 / 8) for count in counts)
    others = [set(one) - set("abcdefgh") for one in found.texts if len(one) == 8]
    assert set("ijklmnopqrstuvwxyz") == set.union(*others)


def test_a_typo_does_not_hang_on_what_other_examples_say():
    one, other = (misspell(texts([first, "the quick brown fox"] * 50), 0.5, DRAWS)[0].texts for first in ("a b", "a"))
    assert one[1::2] == other[1::2] and len(set(one[1::2])) > 10


def test_tagged_words_keep_their_number():
    words = ["U.S.", "EU", "a", "12", "New-York", "日本"]
    found, (changed, of) = misspell(texts([words] * 300), 0.5, DRAWS)
    assert all(len(row) == 6 and all(row) for row in found.texts)
    assert of.tolist() == [4] * 300 and is_about(changed.sum(), 1200, 0.5)
    assert all(row[0] == "U.S." and row[2:4] == ["a", "12"] for row in found.texts)


# --- whole data sets -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(minilm) -> Any:
    return load_tokenizer(minilm)


@pytest.fixture(scope="module")
def noisy_on(tokenizer, conll2003, sms_spam) -> Callable[..., tuple[Noisy, Dataset, Examples]]:
    """Real examples with noise: (noise, clean data, examples). The first `size` ones of a task."""
    blocks = conll2003["train"].read_text("utf-8").split("\n\n")[1:201]
    rows = [[line.split() for line in block.splitlines() if line.strip()] for block in blocks]
    tagged = [[row[0] for row in block] for block in rows], [["O"] * len(block) for block in rows]
    messages = [line.split(",", 1)[0].strip('"') or "x" for line in sms_spam.read_text("utf-8").splitlines()[1:201]]

    def make(noise: Noise, task: str = "classify", size: int = 150, seed: int = 0, **data: Any):
        if task == "tag":
            examples, labels = texts(tagged[0][:size], None, tagged[1][:size]), ("O", "B-LOC", "I-LOC")
        else:
            examples = texts(messages[:size], None, ["ham" if i % 3 else "spam" for i in range(size)])
            labels = ("ham", "spam")
        spec = Data(**{"max_tokens": 48, **data})
        targets = get(task).targets(examples, labels, Problems())
        encoded = encode(examples, tokenizer, max_tokens=spec.max_tokens, overflow=spec.overflow, cache=False)
        clean = Dataset.of(encoded, targets, task == "tag")
        words = prng.stream("noise", seed)
        how = {"labels": labels, "data": spec, "tokenizer": tokenizer, "vocab_size": 30522, "words": words}
        return Noisy(noise, clean, examples, targets, **how), clean, examples

    return make


def assert_same(one: Dataset, other: Dataset) -> None:
    np.testing.assert_array_equal(one.targets, other.targets)
    for name, values in vars(one.encoded).items():
        np.testing.assert_array_equal(getattr(other.encoded, name), values, err_msg=name)


def differ(one: Dataset, other: Dataset) -> bool:
    return not np.array_equal(one.encoded.tokens, other.encoded.tokens)


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_the_same_seed_and_epoch_give_the_same_noise(task: str, noisy_on):
    made = noisy_on(ALL, task)[0]
    first, second = made.dataset(0), made.dataset(1)
    assert_same(noisy_on(ALL, task)[0].dataset(1), second)
    assert differ(first, second) and not np.array_equal(first.targets, second.targets)
    assert differ(first, noisy_on(ALL, task, seed=1)[0].dataset(0))
    fixed = noisy_on(dataclasses.replace(ALL, per_epoch=False), task)[0]
    assert_same(fixed.dataset(7), first)
    every = fixed.epochs(lambda data: data)
    assert every.at(7) is every.at(0)


@pytest.mark.parametrize("overflow", ["truncate", "window"])
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_an_example_added_at_the_end_moves_nothing(task: str, overflow: str, noisy_on):
    few, many = (noisy_on(ALL, task, size, overflow=overflow, max_tokens=24)[0].dataset(1) for size in (149, 150))
    held = len(few.encoded.example)
    assert held < len(many.encoded.example) and many.encoded.num_examples == 150
    assert (few.encoded.window.max() > 0) == (overflow == "window")
    end = few.encoded.offsets[-1]
    np.testing.assert_array_equal(many.encoded.offsets[: held + 1], few.encoded.offsets)
    np.testing.assert_array_equal(many.encoded.tokens[:end], few.encoded.tokens)
    np.testing.assert_array_equal(many.targets[: len(few.targets)], few.targets)


def test_labels_do_not_hang_on_the_noise_of_tokens(noisy_on):
    alone = noisy_on(Noise(label=0.2))[0].dataset(0)
    np.testing.assert_array_equal(noisy_on(ALL)[0].dataset(0).targets, alone.targets)
    rates = Noise(label=0.2), Noise(label=0.2, typo=0.5)
    tags, typos = (noisy_on(noise, "tag", max_tokens=512)[0].dataset(0) for noise in rates)
    assert differ(tags, typos) and words_of(tags) == words_of(typos)
    cut = noisy_on(rates[0], "tag", max_tokens=12)[0].dataset(0)
    held = [set(zip(*words_of(data), strict=True)) for data in (cut, tags)]
    assert held[0] < held[1]


def words_of(data: Dataset) -> tuple[list[int], list[int], list[int]]:
    """Example, word and target of every predicted word."""
    at = data.targets >= 0
    example = np.repeat(data.encoded.example, data.encoded.piece_lengths)[at]
    return example.tolist(), data.encoded.words_at[at].tolist(), data.targets[at].tolist()


def test_a_typo_cuts_a_text_that_just_fitted_and_refuses_none(noisy_on, tokenizer):
    made, clean, examples = noisy_on(Noise(typo=0.9), max_tokens=512, overflow="error")
    longest = int(clean.encoded.lengths.max())
    made, clean, _ = noisy_on(Noise(typo=0.9), max_tokens=longest, overflow="error")
    data = made.dataset(0)
    assert data.encoded.lengths.max() > longest == data.encoded.piece_lengths.max()
    with pytest.raises(UserError, match="texts are over"):
        encode(misspell(examples, 0.9, DRAWS)[0], tokenizer, max_tokens=longest, overflow="error", cache=False)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classify", "tag"])
def test_counts_are_what_batches_show(task: str, noisy_on):
    """One kind at a time, over an epoch and a half, against batches without noise."""
    order = Order(150, 16, prng.stream("order", 0))
    steps = 15  # 10 an epoch
    how = {"micro_batches": 1, "widths": (64,), "packing": False}
    for kind in ("label", *TOKEN_RATES):
        made, clean, _ = noisy_on(noise_of(**{kind: 0.2}), task)
        [count] = made.counts(order, steps).values()
        plain = TrainBatches(clean, order, steps, **how)
        noisy = TrainBatches(made.epochs(lambda data: data), order, steps, **how)
        pairs = [(plain.make(step).arrays, noisy.make(step).arrays) for step in range(steps)]
        if kind == "label":
            found = sum((a["targets"] != b["targets"]).sum() for a, b in pairs)
            of = sum((a["targets"] >= 0).sum() for a, _ in pairs)
        else:
            able = [(a["segments"] > 0) & ~np.isin(a["tokens"], KINDS.special) for a, _ in pairs]
            of = sum(mask.sum() for mask in able)
            if kind == "token_drop":
                found = sum((a["segments"] > 0).sum() - (b["segments"] > 0).sum() for a, b in pairs)
            elif kind == "token_mask":
                found = sum((b["tokens"] == MASK).sum() for _, b in pairs)
            elif kind == "token_replace":
                found = sum((a["tokens"] != b["tokens"]).sum() for a, b in pairs)
            else:
                of = sum((mask[..., 1:] & mask[..., :-1]).sum() for mask in able)
                assert is_about(count["changed"], of, 0.2)
                found = count["changed"]  # equal neighbours do not show; see the test of rates
        assert count == {"changed": found, "of": of}
        assert noisy_on(noise_of(**{kind: 0.2}), task)[0].counts(order, steps) == made.counts(order, steps)


def test_typos_are_counted_by_words(noisy_on):
    made, _, examples = noisy_on(Noise(typo=0.2, per_epoch=False), "tag")
    order, run = Order(150, 16, WORDS), re.compile(r"[^\W\d_]+")
    found, _ = misspell(examples, 0.2, DRAWS)
    before, after = ([run.findall(word) for words in part.texts for word in words] for part in (examples, found))
    differ = sum(a != b for one, two in zip(before, after, strict=True) for a, b in zip(one, two, strict=True))
    of = sum(len(word) >= 2 for words in before for word in words)
    assert made.counts(order, 20) == {"typos": {"changed": 2 * differ, "of": 2 * of}}


# --- what does not fit -----------------------------------------------------------------------------------------------


class Stub:
    """A tokenizer of four words, a mask or none, and room that no text uses."""

    def __init__(self, mask: int | None = 4) -> None:
        self.unk_token_id, self.mask_token_id = 1, mask
        self.all_special_ids = [0, 1, 2, 3] + ([] if mask is None else [mask])

    def get_vocab(self) -> dict[str, int]:
        tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused7]", "the", "dog", "##s", "[")
        return {token: number for number, token in enumerate(tokens)}

    def get_added_vocab(self) -> dict[str, int]:
        return {"[PAD]": 0}


def test_special_and_unused_tokens_are_not_ordinary():
    kinds = TokenKinds.of(Stub(), Noise(token_mask=0.1, token_replace=0.1, typo=0.1), 10)
    assert kinds.ordinary.tolist() == [6, 7, 8, 9] and kinds.special.tolist() == [0, 2, 3, 4] and kinds.mask == 4
    assert TokenKinds.of(Stub(), Noise(token_replace=0.1), 8).ordinary.tolist() == [6, 7]  # what the model knows


@pytest.mark.parametrize(
    ("noise", "mask", "size", "told"),
    [
        (Noise(token_mask=0.1), None, 10, "noise.token_mask: the tokenizer has no mask — set it to 0"),
        (Noise(token_mask=0.1), 4, 4, "noise.token_mask: the mask is token 4, the model has 4 — set it to 0"),
        (Noise(token_replace=0.1), 4, 7, "noise.token_replace: the tokenizer has 1 ordinary tokens — set it to 0"),
        (Noise(typo=0.1), 4, 8, "noise.typo: can bring in any token, and the model's 8 embeddings lack 2 of the"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(noise: Noise, mask: int | None, size: int, told: str):
    with pytest.raises(UserError) as caught:
        TokenKinds.of(Stub(mask), noise, size)
    assert str(caught.value).startswith(told)


def test_one_class_cannot_change():
    data, how = sentences([1]), {"data": Data(), "tokenizer": Stub(), "vocab_size": 10, "words": WORDS}
    with pytest.raises(UserError, match=r"noise.label: needs another class .* only 'ham'"):
        Noisy(Noise(label=0.1), data, texts(["a"]), [0], labels=("ham",), **how)
