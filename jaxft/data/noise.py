"""Noise: deliberate damage to the training data, every decision of it with an address.

    typos      the quick brown  ->  the qiuck brown       to letters, before tokenising
    labels     ham              ->  spam                  to targets: of an example, a tagged word, or a class of many
    replaced   quick  ->  lamp                            to tokens, in this order; special tokens keep their place
    masked     quick  ->  [MASK]
    swapped    the quick  ->  quick the
    dropped    the quick  ->  the

A decision is a pure function of (noise stream, kind, epoch, example, place), hashed with Threefry-2x32 (Salmon et al.
2011). The place is the piece and position of a token before anything is swapped or dropped, the number of a tagged
word, of a class, or of a run of letters. No decision hangs on another: a rate moves the decisions of its own kind
alone, and examples added at the end move none. Only what a typo does to the tokens of its own text changes what stands
at the places behind it. Symmetric and class-conditional label noise are those of Natarajan et al. (2013) and Patrini
et al. (2017); noise that depends on the text is left out.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxft import prng
from jaxft.data.batches import ByEpoch, Dataset, Epochs
from jaxft.data.encode import Encoded, encode
from jaxft.data.listing import Listing
from jaxft.errors import Problems, UserError
from jaxft.kernels.dropout.reference import threefry2x32, threshold
from jaxft.recipe import Data, Noise

if TYPE_CHECKING:
    from jaxft.data.examples import Examples
    from jaxft.data.order import Order

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LETTER_RUN = re.compile(r"[^\W\d_]+")
_UNUSED = re.compile(r"\[unused\d+\]")
"""BERT's vocabulary has room for tokens that no text holds."""
_SUM_TOLERANCE = 1e-6
"""How far the written digits of a row of probabilities may sum from 1."""


class Changes(NamedTuple):
    """What one kind of noise did: int64 [E] each, what it changed in each example, and of how many."""

    changed: np.ndarray
    of: np.ndarray


@dataclass(frozen=True)
class Draws:
    """The random bits of one epoch. words: of the noise stream."""

    words: prng.Words
    epoch: int

    def bits(self, kind: str, example: np.ndarray, place: np.ndarray) -> prng.Words:
        """Two words of random bits for each address; example, place: integers below 2**32, of shapes that broadcast."""
        key = prng.fold_in(prng.path_words(self.words, kind), self.epoch)
        example, place = np.broadcast_arrays(np.asarray(example, np.uint32), np.asarray(place, np.uint32))
        return threefry2x32(key, (example, place))


class Noisy:
    """The training data of a recipe as its epochs meet it.

    clean: without noise. examples, targets: what it was made of (targets as `Task.targets` gives them). words: of the
    noise stream. vocab_size: tokens that the model knows. Raises UserError where the tokenizer, the model or the
    confusion matrix does not fit.
    """

    def __init__(
        self,
        noise: Noise,
        clean: Dataset,
        examples: Examples,
        targets: list,
        *,
        labels: Sequence[str],
        data: Data,
        tokenizer: Any,
        vocab_size: int,
        words: prng.Words,
    ) -> None:
        self._noise, self._clean, self._examples, self._targets = noise, clean, examples, targets
        self._num_labels, self._data, self._tokenizer, self._words = len(labels), data, tokenizer, words
        self._kinds = TokenKinds.of(tokenizer, noise, vocab_size)
        self._confusion = None if noise.label_confusion is None else read_confusion(noise.label_confusion, labels)
        self._totals: dict[int, dict[str, tuple[int, int]]] = {}
        if noise.label and len(labels) < 2:
            raise UserError("noise.label", f"needs another class to change to, and there is only {labels[0]!r}")

    def epochs(self, change: Callable[[Dataset], Dataset]) -> ByEpoch:
        """The noisy data, each epoch's after `change`."""
        if not self._noise.per_epoch:
            return change(self.dataset(0))
        return Epochs(lambda epoch: change(self.dataset(epoch)))

    def dataset(self, epoch: int) -> Dataset:
        """What an epoch meets: as many examples, in the same order."""
        return self._make(epoch)[0]

    def counts(self, order: Order, num_steps: int, first: int = 0) -> dict[str, dict[str, int]]:
        """Kind -> how much was `changed`, `of` how much, in what the steps `first` .. `num_steps` - 1 meet."""
        parts = []
        for epoch, steps in itertools.groupby(range(first, num_steps), key=order.epoch):
            numbers = list(steps)
            if len(numbers) == order.steps_per_epoch and order.take is None:
                parts.append(self._total(epoch))
            else:
                met = np.concatenate([order.examples(step) for step in numbers])
                parts.append(_totals(self._make(epoch)[1], met))
        return {
            kind: {name: sum(part[kind][at] for part in parts) for at, name in enumerate(Changes._fields)}
            for kind in (parts[0] if parts else ())
        }

    def _total(self, epoch: int) -> dict[str, tuple[int, int]]:
        if self._number(epoch) not in self._totals:
            self._make(epoch)
        return self._totals[self._number(epoch)]

    def _number(self, epoch: int) -> int:
        """The epoch in the addresses of decisions."""
        return epoch if self._noise.per_epoch else 0

    def _make(self, epoch: int) -> tuple[Dataset, dict[str, Changes]]:
        noise, draws = self._noise, Draws(self._words, self._number(epoch))
        data, changes = self._clean, {}
        if noise.typo:
            examples, changes["typos"] = misspell(self._examples, noise.typo, draws)
            data = Dataset.of(self._encode(examples), self._targets, data.per_token)
        if noise.label or self._confusion is not None:
            data, changes["labels"] = relabel(data, self._num_labels, noise.label, self._confusion, draws)
        data, of_tokens = disturb(data, noise, self._kinds, draws)
        changes |= of_tokens
        self._totals[draws.epoch] = _totals(changes, slice(None))
        return data, changes

    def _encode(self, examples: Examples) -> Encoded:
        """A text that fitted may be too long after a typo: it is cut, not refused."""
        overflow = "truncate" if self._data.overflow == "error" else self._data.overflow
        return encode(examples, self._tokenizer, max_tokens=self._data.max_tokens, overflow=overflow, cache=False)


def _totals(changes: Mapping[str, Changes], examples: Any) -> dict[str, tuple[int, int]]:
    return {kind: (int(changed[examples].sum()), int(of[examples].sum())) for kind, (changed, of) in changes.items()}


def _choice(bits: np.ndarray, size: Any) -> np.ndarray:
    """int64, below `size` (below 2**32): one of so many alike, out of 32 random bits."""
    return (bits.astype(np.uint64) * np.asarray(size, np.uint64) >> np.uint64(32)).astype(np.int64)


# --- labels ----------------------------------------------------------------------------------------------------------


def relabel(
    data: Dataset, num_labels: int, rate: float, confusion: np.ndarray | None, draws: Draws
) -> tuple[Dataset, Changes]:
    """Targets changed at `rate`, or by a `confusion` matrix [C, C] of P(noisy | true)."""
    encoded, targets = data.encoded, data.targets.copy()
    if data.per_token:
        at = np.flatnonzero(targets >= 0)
        example, place = np.repeat(encoded.example, encoded.piece_lengths)[at], encoded.words_at[at]
    elif targets.ndim == 1:
        at = example = np.arange(len(targets))
        place = np.zeros_like(at)
    else:  # many labels an example: every class of it, one after another
        at = np.arange(targets.size)
        example, place = np.divmod(at, num_labels)
    flat = targets.reshape(-1)
    chance, choice = draws.bits("label", example, place)
    if targets.ndim == 2:
        noisy = np.where(chance < threshold(rate), 1 - flat[at], flat[at])
    elif confusion is None:
        other = _choice(choice, num_labels - 1)
        noisy = np.where(chance < threshold(rate), other + (other >= flat[at]), flat[at])
    else:
        noisy = _confused(flat[at], confusion, chance)
    changed, size = noisy != flat[at], encoded.num_examples
    flat[at] = noisy
    changes = Changes(np.bincount(example[changed], minlength=size), np.bincount(example, minlength=size))
    return dataclasses.replace(data, targets=targets), changes


def _confused(targets: np.ndarray, confusion: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """int64 [N], each drawn from its target's row by 32 random bits."""
    sums = np.cumsum(confusion, axis=1)
    limits = np.round(sums / sums[:, -1:] * 2**32).astype(np.int64)
    noisy = np.empty(len(targets), np.int64)
    for label, row in enumerate(limits):
        mine = targets == label
        noisy[mine] = np.searchsorted(row, chance[mine].astype(np.int64), side="right")
    return noisy


def read_confusion(path: str | Path, labels: Sequence[str]) -> np.ndarray:
    """float64 [C, C], P(noisy | true) of a CSV file, rows and columns in the order of `labels`. Raises UserError.

    ,ham,spam          of true ham, 10 % become spam
    ham,0.9,0.1
    spam,0.0,1.0
    """
    problems = Problems()
    lines = _csv_lines(path)
    if not lines:
        raise UserError(str(path), "holds no confusion matrix", "labels in the first row and in the first column")
    (head_at, head), rows = lines[0], lines[1:]
    _check_labels(f"{path}:{head_at}", "first row", head[1:], labels, problems)
    _check_labels(str(path), "first column", [row[0] for _, row in rows], labels, problems)
    with Listing(problems, str(path)) as listing:
        found = {row[0]: _probabilities(f"{path}:{at}", row, head, listing) for at, row in rows}
    problems.raise_if_any()
    return np.array([[found[true][head.index(noisy, 1) - 1] for noisy in labels] for true in labels], np.float64)


def _csv_lines(path: str | Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the lines that are not blank."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError:
        raise UserError(str(path), "no such file with a confusion matrix", "see noise.label_confusion") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(str(path), f"cannot be read as CSV in UTF-8: {error}") from None
    return [(at, row) for at, row in lines if any(row)]


def _check_labels(where: str, what: str, found: list[str], labels: Sequence[str], problems: Problems) -> None:
    missing = [label for label in labels if label not in found]
    extra = [name for name in found if name not in labels]
    twice = sorted({name for name in found if found.count(name) > 1})
    for names, fault in ((missing, "lacks"), (extra, "names what is no label of the data:"), (twice, "has twice")):
        if names:
            text = f"the {what} of the confusion matrix {fault} {', '.join(map(repr, names))}"
            problems.add(where, text, f"the labels are {', '.join(labels)}")


def _probabilities(where: str, row: list[str], head: list[str], listing: Listing) -> list[float]:
    """The numbers of one row, 0 where a cell holds none."""
    label, cells = row[0], row[1:]
    if len(row) != len(head):
        text = f"the row of label {label!r} has {len(cells)} numbers, the first row {len(head) - 1} labels"
        listing.add(where, text, "give one probability for each label of the first row")
        return [0.0] * len(head)
    numbers = [_number(cell) for cell in cells]
    for name, cell, number in zip(head[1:], cells, numbers, strict=True):
        if number is None or not 0 <= number <= 1:
            text = f"P({name} | {label}) must be a number from 0 to 1, came {cell!r}"
            listing.add(where, text, "write a probability, such as 0.1")
            return [0.0] * len(head)
    total = sum(number for number in numbers if number is not None)
    if abs(total - 1) > _SUM_TOLERANCE:
        text = f"the row of label {label!r} sums to {total:.8g}, not 1"
        listing.add(where, text, f"write what becomes of all {label!r}: what stays, too")
    return [number or 0.0 for number in numbers]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


# --- tokens ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenKinds:
    """special: ids of tokens that noise leaves where they are. ordinary: ids of the tokens that texts are made of,
    ascending. mask: the id of the mask, -1 where there is none."""

    special: np.ndarray
    ordinary: np.ndarray
    mask: int

    @classmethod
    def of(cls, tokenizer: Any, noise: Noise, vocab_size: int) -> TokenKinds:
        """Raises UserError where the noise needs a token that the tokenizer or the model lacks."""
        vocabulary, added = tokenizer.get_vocab(), set(tokenizer.get_added_vocab().values())
        outside = added | set(tokenizer.all_special_ids)
        ordinary = [at for token, at in vocabulary.items() if at not in outside and not _UNUSED.fullmatch(token)]
        beyond = sum(at >= vocab_size for at in ordinary)
        if noise.typo and beyond:
            what = f"can bring in any token, and the model's {vocab_size} embeddings lack {beyond} of the tokenizer's"
            raise UserError("noise.typo", what, "use the tokenizer that belongs to the model, or set it to 0")
        mask = tokenizer.mask_token_id
        if noise.token_mask and (mask is None or mask >= vocab_size):
            lack = (
                "the tokenizer has no mask" if mask is None else f"the mask is token {mask}, the model has {vocab_size}"
            )
            raise UserError("noise.token_mask", lack, "set it to 0")
        known = [at for at in ordinary if at < vocab_size]
        if noise.token_replace and len(known) < 2:
            raise UserError("noise.token_replace", f"the tokenizer has {len(known)} ordinary tokens", "set it to 0")
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}  # an unknown word is a word
        return cls(np.array(sorted(special)), np.array(sorted(known)), -1 if mask is None else mask)


def disturb(data: Dataset, noise: Noise, kinds: TokenKinds, draws: Draws) -> tuple[Dataset, dict[str, Changes]]:
    """Tokens replaced, masked, swapped and dropped; each takes its type, word and target along."""
    stand, changes = _Stand.of(data.encoded, kinds), {}
    tokens, order = data.encoded.tokens, np.arange(len(stand.place))
    kept = np.ones(len(order), bool)
    if noise.token_replace:
        hits, bits = stand.hit("token_replace", noise.token_replace, stand.ordinary, draws)
        tokens = np.where(hits, _others(tokens, kinds.ordinary, bits[1]), tokens)
        changes["replaced"] = stand.count(hits, stand.ordinary)
    if noise.token_mask:
        hits, _ = stand.hit("token_mask", noise.token_mask, stand.ordinary, draws)
        tokens = np.where(hits, kinds.mask, tokens)
        changes["masked"] = stand.count(hits, stand.ordinary)
    if noise.token_swap:
        able = _before_another(stand, data.encoded.types)
        hits, _ = stand.hit("token_swap", noise.token_swap, able, draws)
        order = _swapped(hits)
        changes["swapped"] = stand.count(hits, able)
    if noise.token_drop:
        hits, bits = stand.hit("token_drop", noise.token_drop, stand.ordinary, draws)
        hits = _leave_one(hits, stand, bits[0])
        kept = ~hits
        changes["dropped"] = stand.count(hits, stand.ordinary)
    return _moved(data, tokens, order[kept[order]], stand.piece[kept]) if changes else data, changes


@dataclass(frozen=True)
class _Stand:
    """Where T tokens stand before any is swapped or dropped.

    piece, example: int [T]. place: int64 [T], window · 2**16 + position. ordinary: bool [T], whether noise may change
    it. num_examples: E.
    """

    piece: np.ndarray
    example: np.ndarray
    place: np.ndarray
    ordinary: np.ndarray
    num_examples: int

    @classmethod
    def of(cls, encoded: Encoded, kinds: TokenKinds) -> _Stand:
        piece = np.repeat(np.arange(len(encoded.example)), encoded.piece_lengths)
        position = np.arange(len(piece)) - encoded.offsets[piece]
        place = encoded.window[piece].astype(np.int64) << 16 | position
        ordinary = ~np.isin(encoded.tokens, kinds.special)
        return cls(piece, encoded.example[piece], place, ordinary, encoded.num_examples)

    def hit(self, kind: str, rate: float, able: np.ndarray, draws: Draws) -> tuple[np.ndarray, prng.Words]:
        """Which of the `able` tokens are hit, bool [T], and the bits; the first word decided of it."""
        bits = draws.bits(kind, self.example, self.place)
        return able & (bits[0] < threshold(rate)), bits

    def count(self, hits: np.ndarray, able: np.ndarray) -> Changes:
        return Changes(*(np.bincount(self.example[mask], minlength=self.num_examples) for mask in (hits, able)))


def _moved(data: Dataset, tokens: np.ndarray, order: np.ndarray, piece: np.ndarray) -> Dataset:
    """Other tokens, in another order. order: which tokens, one after another. piece: of each that is left."""
    encoded = data.encoded
    lengths = np.bincount(piece, minlength=len(encoded.example))
    moved = dataclasses.replace(
        encoded,
        tokens=tokens[order].astype(np.int32),
        types=encoded.types[order],
        words_at=encoded.words_at[order],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )
    return Dataset(moved, data.targets[order] if data.per_token else data.targets, data.per_token)


def _others(tokens: np.ndarray, ordinary: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """For each token one of the `ordinary` ones, all others alike."""
    rank = np.searchsorted(ordinary, tokens)
    is_one = ordinary[np.minimum(rank, len(ordinary) - 1)] == tokens
    other = _choice(choice, len(ordinary) - is_one)
    return ordinary[other + (is_one & (other >= rank))]


def _before_another(stand: _Stand, types: np.ndarray) -> np.ndarray:
    """bool [T], whether a token and the next one are ordinary ones of the same text."""
    piece, ordinary = stand.piece, stand.ordinary
    able = np.zeros(len(piece), bool)
    able[:-1] = ordinary[:-1] & ordinary[1:] & (piece[:-1] == piece[1:]) & (types[:-1] == types[1:])
    return able


def _swapped(hits: np.ndarray) -> np.ndarray:
    """int64 [T], which token stands at each place after the swaps, made from left to right.

    hits     0 1 0 0 1 1 0        the token that stands here changes places with the next one
    result   0 2 1 3 5 6 4        so through neighbouring hits one token travels on
    """
    at = np.arange(len(hits))
    before = np.concatenate([[False], hits[:-1]])
    run_start = np.maximum.accumulate(np.where(hits & ~before, at, 0))
    return np.where(hits, at + 1, np.where(before, run_start, at))


def _leave_one(hits: np.ndarray, stand: _Stand, chance: np.ndarray) -> np.ndarray:
    """The hits, but for the one that came closest to staying in each piece that would lose all its ordinary tokens."""
    piece = stand.piece
    stays = np.bincount(piece[stand.ordinary & ~hits], minlength=int(piece.max(initial=-1)) + 1)
    doomed = np.flatnonzero(hits & (stays[piece] == 0))
    doomed = doomed[np.lexsort((doomed, -chance[doomed].astype(np.int64), piece[doomed]))]
    _, first = np.unique(piece[doomed], return_index=True)
    left = hits.copy()
    left[doomed[first]] = False
    return left


# --- letters ---------------------------------------------------------------------------------------------------------


def misspell(examples: Examples, rate: float, draws: Draws) -> tuple[Examples, Changes]:
    """Texts with one typo in words hit at `rate`; a word is a run of letters, here of two at least.

    Runs are counted through all of an example: its words (tagging), or its text and then the second one.
    """
    strings = _strings(examples)
    runs = np.array(
        [
            (example, part, *run.span())
            for example, parts in enumerate(strings)
            for part, text in enumerate(parts)
            for run in _LETTER_RUN.finditer(text)
        ],
        np.int64,
    ).reshape(-1, 4)
    example = runs[:, 0]
    number = np.arange(len(runs)) - np.searchsorted(example, example)
    able = runs[:, 3] - runs[:, 2] >= 2
    chance, kind = draws.bits("typo", example, number)
    hits = np.flatnonzero(able & (chance < threshold(rate)))
    place, letter = draws.bits("typo letter", example[hits], number[hits])
    for (at, part, start, stop), *bits in reversed(
        list(zip(runs[hits].tolist(), kind[hits], place, letter, strict=True))
    ):
        text = strings[at][part]  # from the right: what stands before keeps its place
        strings[at][part] = text[:start] + misspelt(text[start:stop], *map(int, bits)) + text[stop:]
    counts = (np.bincount(example[mask], minlength=len(examples)) for mask in (hits, able))
    return _with_strings(examples, strings), Changes(*counts)


def misspelt(word: str, kind: int, place: int, letter: int) -> str:
    """A word of two letters or more with one typo, of four kinds alike; 32 random bits decide of each of the three.

    Two neighbours swapped (where any two differ, else one is doubled), a letter dropped, doubled, or replaced by
    another one of a to z.
    """
    kind, at = kind * 4 >> 32, place * len(word) >> 32
    unlike = [i for i in range(len(word) - 1) if word[i].lower() != word[i + 1].lower()]
    if kind == 0 and unlike:
        at = unlike[place * len(unlike) >> 32]
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 3:
        others = _LETTERS.replace(word[at].lower(), "")
        other = others[letter * len(others) >> 32]
        return word[:at] + (other.upper() if word[at].isupper() else other) + word[at + 1 :]
    return word[:at] + word[at] + word[at:]


def _strings(examples: Examples) -> list[list[str]]:
    """The words of each example, or its text, with the second one if it has one."""
    if examples.is_tagged:
        return [list(words) for words in examples.texts]
    if examples.pairs is None:
        return [[text] for text in examples.texts]
    return [list(both) for both in zip(examples.texts, examples.pairs, strict=True)]


def _with_strings(examples: Examples, strings: list[list[str]]) -> Examples:
    if examples.is_tagged:
        return dataclasses.replace(examples, texts=strings)
    pairs = None if examples.pairs is None else [parts[1] for parts in strings]
    return dataclasses.replace(examples, texts=[parts[0] for parts in strings], pairs=pairs)
