"""Checks of labelled examples before any token is made of them: what would silently spoil training or its scores.

Errors: empty texts, duplicate ids, labels in dev or test that train lacks, one class only. Warnings: texts shared by
two parts, texts labelled in two ways, rare labels, imbalance, labels that differ in case or spaces alone, truncation.
Everything goes through hash sets, once over the data.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from jaxft.data.examples import Examples
from jaxft.data.listing import Listing
from jaxft.errors import Problems
from jaxft.recipe import Data
from jaxft.tasks import iob

RARE_BELOW = 8
"""Training examples (entities) of a label below which it is called rare."""
IMBALANCE_FROM = 10
"""Ratio of the most to the least frequent label from which the classes are called imbalanced."""


def examine(
    splits: Mapping[str, Examples],
    labels: Sequence[str],
    spec: Data,
    token_lengths: Mapping[str, Sequence[int] | np.ndarray] | None,
    problems: Problems,
) -> None:
    """Adds errors and warnings about `splits` (train, and dev and test where there are any) to `problems`.

    labels: the task's label set, made of train. token_lengths: split -> tokens of each whole example, special tokens
    included; None before tokenising.
    """
    for name, examples in splits.items():
        _check_empty_split(name, examples, problems)
        _check_empty_texts(examples, problems)
        _check_ids(examples, problems)
    contents = {name: examples.contents() for name, examples in splits.items()}
    _check_overlap(contents, problems)
    if "train" in splits:
        _check_contradictions(splits["train"], contents["train"], problems)
        _check_counts(splits["train"], labels, problems)
    for name in splits:
        if name != "train":
            _check_known(name, splits[name], labels, problems)
    for name, lengths in (token_lengths or {}).items():
        _check_lengths(name, lengths, spec, problems)


def label_counts(examples: Examples) -> Counter[str]:
    """Label -> examples; tagged text: entity type -> entities."""
    if examples.is_tagged:
        return Counter(kind for tags in examples.labels or [] for kind, _, _ in iob.spans(tags))
    return Counter(name for label in examples.labels or [] for name in (label if isinstance(label, list) else [label]))


# --- one part -------------------------------------------------------------------------------------------------------


def _check_empty_split(name: str, examples: Examples, problems: Problems) -> None:
    if not len(examples) and not problems.errors:  # a source that could not be read has said so already
        problems.add(examples.source or name, f"the {name} set holds no examples")


def _check_empty_texts(examples: Examples, problems: Problems) -> None:
    with Listing(problems, examples.source) as listing:
        for i, (text, where) in enumerate(zip(examples.texts, examples.where, strict=True)):
            if isinstance(text, str):
                if not text.strip():
                    listing.add(where, "the text is empty", "remove the row, or fill it in")
            elif not text or not all(word.strip() for word in text):
                blank = next((j + 1 for j, word in enumerate(text) if not word.strip()), 0)
                listing.add(
                    where, f"word {blank} of {len(text)} is blank" if blank else "no words", "remove it and its tag"
                )
            if examples.pairs is not None and not examples.pairs[i].strip():
                listing.add(where, "the second text is empty", "remove the row, or fill it in")


def _check_ids(examples: Examples, problems: Problems) -> None:
    first: dict[str, str] = {}
    with Listing(problems, examples.source) as listing:
        for name, where in zip(examples.ids or [], examples.where, strict=False):
            if name in first:
                listing.add(
                    where, f"id {name!r} was given before, at {first[name]}", "give each example an id of its own"
                )
            else:
                first[name] = where


def _check_lengths(name: str, lengths: Sequence[int] | np.ndarray, spec: Data, problems: Problems) -> None:
    lengths = np.asarray(lengths)
    cut = lengths > spec.max_tokens
    if spec.overflow != "truncate" or not cut.any():
        return
    lost = int((lengths[cut] - spec.max_tokens).sum())
    what = (
        f"{_share(int(cut.sum()), len(lengths))} examples are longer than {spec.max_tokens} tokens and lose "
        f"{lost:,} of {int(lengths.sum()):,} tokens (longest: {int(lengths.max()):,})"
    )
    problems.warn(name, what, "raise `data.max_tokens`, or set `data.overflow: window`")


# --- between parts --------------------------------------------------------------------------------------------------


def _check_overlap(contents: Mapping[str, list[str]], problems: Problems) -> None:
    held = {name: set(part) for name, part in contents.items()}
    for one, other in combinations(contents, 2):
        shared = sum(content in held[one] for content in contents[other])
        if shared:
            what = f"{_share(shared, len(contents[other]))} texts also occur in {one} (without case and spacing)"
            problems.warn(other, what, f"scores on {other} flatter the model; remove them from one of the two")


def _check_known(name: str, examples: Examples, labels: Sequence[str], problems: Problems) -> None:
    """Labels that train lacks: one problem a label, at the first example that has it."""
    known = set(labels)
    unknown: dict[str, list[str]] = defaultdict(list)
    for where, label in zip(examples.where, examples.labels or [], strict=False):
        for item in dict.fromkeys(label if isinstance(label, list) else [label]):
            if item not in known:
                unknown[item].append(where)
    with Listing(problems, examples.source) as listing:
        for label, wheres in unknown.items():
            near = difflib.get_close_matches(label, labels, n=1)
            held = f"train, which has {len(labels):,} labels"
            what = f"label {label!r} ({len(wheres):,} examples of {name}) does not occur in {held}"
            listing.add(
                wheres[0],
                what,
                f"did you mean {near[0]!r}?" if near else "add examples of it to train, or remove these",
            )


# --- labels of train ------------------------------------------------------------------------------------------------


def _check_counts(train: Examples, labels: Sequence[str], problems: Problems) -> None:
    counts = label_counts(train)
    if train.labels is None or not len(train):
        return
    unit = "entities" if train.is_tagged else "examples"
    least = 1 if train.is_tagged or train.is_multi_label else 2
    if len(counts) < least:
        held = f"only {next(iter(counts))!r}" if counts else "none"
        what = f"{len(train):,} training examples, {held} as label: there is nothing to tell apart"
        problems.add(
            train.source, what, f"at least {least} kind{'s' * (least > 1)} of label; is `data.label` the right column?"
        )
        return
    _check_rare(train, counts, unit, problems)
    _check_spelling(train, counts, problems)
    (most, top), (fewest, bottom) = counts.most_common()[0], counts.most_common()[-1]
    if top >= IMBALANCE_FROM * bottom and len(counts) > 1:
        what = (
            f"imbalanced labels: {top:,} {unit} of {most!r} against {bottom:,} of {fewest!r} ({top / bottom:.0f} to 1)"
        )
        fix = "mind the per-label table; `train.class_weights: balanced` weighs them alike"
        problems.warn(train.source, what, fix)


def _check_rare(train: Examples, counts: Counter[str], unit: str, problems: Problems) -> None:
    rare = sorted((count, label) for label, count in counts.items() if count < RARE_BELOW)
    if rare:
        shown = ", ".join(f"{label!r} ({count})" for count, label in rare[:10])
        more = f" and {len(rare) - 10:,} more" if len(rare) > 10 else ""
        what = f"{len(rare):,} of {len(counts):,} labels have fewer than {RARE_BELOW} training {unit}: {shown}{more}"
        problems.warn(train.source, what, "their scores will be noise; add examples or merge labels")


def _check_spelling(train: Examples, counts: Counter[str], problems: Problems) -> None:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        alike[" ".join(label.casefold().split())].append(label)
    for names in alike.values():
        if len(names) > 1:
            shown = ", ".join(f"{name!r} ({counts[name]:,})" for name in names)
            problems.warn(
                train.source, f"labels that differ in case or spaces alone: {shown}", "are they meant to be one?"
            )


def _check_contradictions(train: Examples, contents: list[str], problems: Problems) -> None:
    """Texts that occur with different labels."""
    first: dict[str, int] = {}
    labels = train.labels or []
    clashes = [(first[content], i) for i, content in enumerate(contents) if first.setdefault(content, i) != i]
    clashes = [(a, b) for a, b in clashes if labels and labels[a] != labels[b]]
    if clashes:
        a, b = clashes[0]
        what = (
            f"{_share(len(clashes), len(train))} texts repeat an earlier one with another label, as at {train.where[b]}"
        )
        problems.warn(train.source, what, f"compare with {train.where[a]}")


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({100 * part / whole:.1f} %)"
