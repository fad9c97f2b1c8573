"""CoNLL-2003 for the peers: sentences, token ids, the order of batches, and padded arrays.

Needs numpy and `tokenizers` only, so that every peer, in whatever environment, trains on the same arrays. Leaves out
everything about models. Not used by jaxft itself, which reads the same files with its own readers.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TAGS = ("O", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-ORG", "I-ORG", "B-PER", "I-PER")
FILES = {"train": "train.txt", "dev": "valid.txt", "test": "test.txt"}
IGNORE = -100
BATCH_SIZE = 32
MAX_TOKENS = 128
MEGA_BATCHES = 50  # batches sorted together by length, as in the Trainer's group_by_length


@dataclass(frozen=True)
class Sentences:
    """Encoded sentences of one split; entry e of every list belongs to sentence e."""

    tags: list[list[str]]  # one a word
    ids: list[np.ndarray]  # int64 [tokens], [CLS] and [SEP] included
    targets: list[np.ndarray]  # int64 [tokens]: tag index at a word's first sub-token, else IGNORE

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence, int [E]."""
        return np.array([len(ids) for ids in self.ids])


def add_folders(parser: ArgumentParser) -> None:
    """Adds --data and --model; left out, they come from jaxft's assets."""
    parser.add_argument("--data", type=Path, help="folder with train.txt, valid.txt, test.txt (default: the asset)")
    parser.add_argument("--model", type=Path, help="folder with config.json, model.safetensors (default: the asset)")


def folders(options: Namespace) -> tuple[Path, Path]:
    """(data folder, model folder) as given, else jaxft's assets."""
    if options.data and options.model:
        return options.data, options.model
    from jaxft import assets

    return options.data or assets.fetch("conll2003"), options.model or assets.resolve_model("minilm")


def read(path: Path) -> list[tuple[list[str], list[str]]]:
    """(words, tags) of each sentence of a CoNLL file; `-DOCSTART-` lines are left out."""
    sentences, words, tags = [], [], []
    for line in [*path.read_text("utf-8").split("\n"), ""]:
        if line.strip() and not line.startswith("-DOCSTART-"):
            columns = line.split()
            words.append(columns[0])
            tags.append(columns[3])
        elif words:
            sentences.append((words, tags))
            words, tags = [], []
    return sentences


def encode(data: Path, model: Path, split: str) -> Sentences:
    """Reads and tokenises one split; sentences over MAX_TOKENS tokens are cut."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    sentences = read(data / FILES[split])
    encodings = tokenizer.encode_batch([words for words, _ in sentences], is_pretokenized=True)
    targets = [first_targets(e.word_ids, tags) for e, (_, tags) in zip(encodings, sentences, strict=True)]
    return Sentences([tags for _, tags in sentences], [np.array(e.ids, np.int64) for e in encodings], targets)


def first_targets(word_ids: list[int | None], tags: list[str]) -> np.ndarray:
    """Targets [tokens]: the tag index at each word's first sub-token, IGNORE elsewhere."""
    targets = np.full(len(word_ids), IGNORE, np.int64)
    for at, word in enumerate(word_ids):
        if word is not None and (at == 0 or word_ids[at - 1] != word):
            targets[at] = TAGS.index(tags[word])
    return targets


def order(lengths: np.ndarray, grouping: str, seed: int) -> Iterator[list[np.ndarray]]:
    """Yields, epoch after epoch without end, the batches of an epoch as arrays of sentence indexes.

    grouping "length": mega-batches of 50 batches are sorted by length, as `group_by_length` does; the batches then come
    in random order, so that any stretch of steps sees long and short ones. Otherwise plain random order.
    """
    generator = np.random.default_rng(seed)
    while True:
        indexes = generator.permutation(len(lengths))
        if grouping == "length":
            chunk = BATCH_SIZE * MEGA_BATCHES
            parts = [indexes[at : at + chunk] for at in range(0, len(indexes), chunk)]
            indexes = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])
        batches = [indexes[at : at + BATCH_SIZE] for at in range(0, len(indexes), BATCH_SIZE)]
        if grouping == "length":
            batches = [batches[at] for at in generator.permutation(len(batches))]
        yield batches


def pad(sentences: Sentences, indexes: np.ndarray, width: int | None = None) -> dict[str, np.ndarray]:
    """input_ids, attention_mask, labels, int64 [B, L]; L is the longest sentence of the batch, or `width`."""
    longest = width or max(len(sentences.ids[at]) for at in indexes)
    shape = (len(indexes), longest)
    batch = {"input_ids": np.zeros(shape, np.int64), "attention_mask": np.zeros(shape, np.int64)}
    batch["labels"] = np.full(shape, IGNORE, np.int64)
    for row, at in enumerate(indexes):
        length = len(sentences.ids[at])
        batch["input_ids"][row, :length] = sentences.ids[at]
        batch["attention_mask"][row, :length] = 1
        batch["labels"][row, :length] = sentences.targets[at]
    return batch


def word_tags(sentences: Sentences, indexes: np.ndarray, predicted: np.ndarray) -> list[list[str]]:
    """Predicted tag names, one a word, of the given sentences from tag indexes [B, L]; words cut off get `O`."""
    named = []
    for row, at in enumerate(indexes):
        targets = sentences.targets[at]
        tags = [TAGS[k] for k in predicted[row, : len(targets)][targets != IGNORE]]
        named.append(tags + ["O"] * (len(sentences.tags[at]) - len(tags)))
    return named
