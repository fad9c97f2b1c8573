"""Parts of a data set for dev and test: seeded, stratified by label, and free of copies across parts.

Which part an example falls in hangs on SHA-256 of (seed, what the example says), not on its place in the file: adding
or moving rows moves few others. Examples that say the same (without case and spacing) stay together, so that dev and
test hold nothing that training has seen.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict

from jaxft.data.examples import Examples
from jaxft.errors import UserError

Group = list[int]  # indexes of examples that say the same


def split(
    examples: Examples,
    *,
    dev: float | None = None,
    test: float | None = None,
    search: float | None = None,
    seed: int,
) -> dict[str, Examples]:
    """`train`, and `dev`, `test` and `search` where a fraction (of the whole) is given; each in the order of the file.

    Stratified by label; multi-label by the example's rarest label; tagged text not at all. Every label keeps an example
    in train. Sizes are the fractions rounded, or a few less where copies or single examples of a label forbid more.
    Raises UserError if a part would be empty.
    """
    shares = {name: share for name, share in (("test", test), ("dev", dev), ("search", search)) if share is not None}
    strata = _strata(examples, seed)
    counts = _sizes(strata)
    parts: dict[str, list[int]] = {name: [] for name in shares}
    spare = {label: groups[1:] for label, groups in strata.items()}  # the first group stays in train
    train = list(range(len(examples)))
    for names in (("test", "dev"), ("search",)):  # search last: it takes no example of the others, and gives none back
        drawn = {name: part for name, part in parts.items() if name in names}
        for name, part in drawn.items():
            quotas = _quotas(counts, shares[name], _sizes(spare))
            for label, groups in spare.items():
                part += _draw(groups, quotas[label])
        taken = {i for part in drawn.values() for i in part}
        train = [i for i in train if i not in taken]
        _give_back(examples, drawn, train)
    parts["train"] = train
    for name in ("train", *shares):
        _check_size(name, len(parts[name]), shares.get(name), examples)
    return {name: examples.take(sorted(parts[name])) for name in ("train", "dev", "test", "search") if name in parts}


def sample(examples: Examples, size: int, *, seed: int) -> Examples:
    """So many of the examples, in the order of the file; a smaller sample is part of a larger one, or nearly.

    Seeded and stratified as `split` is, but copies are drawn one by one: nothing is held out here. Each stratum gives
    one at least. Raises UserError where `size` is too small for that.
    """
    if size >= len(examples):
        return examples
    strata: dict[str, list[int]] = defaultdict(list)
    contents, labels = examples.contents(), _strata_labels(examples)
    for i in sorted(range(len(examples)), key=lambda i: (_address(seed, contents[i]), i)):
        strata[labels[i]].append(i)
    if size < len(strata):
        what = f"{size:,} examples cannot hold one of each of {len(strata):,} labels"
        raise UserError("data.limit", what, f"at least {len(strata):,}")
    counts = {label: len(strata[label]) for label in sorted(strata)}
    quotas = {label: max(1, quota) for label, quota in _quotas(counts, size / len(examples), counts).items()}
    for _ in range(sum(quotas.values()) - size):  # the largest pay for the ones that the smallest were given
        quotas[max(quotas, key=lambda label: (quotas[label], label))] -= 1
    return examples.take(sorted(i for label, quota in quotas.items() for i in strata[label][:quota]))


def _strata_labels(examples: Examples) -> list[str]:
    """The label by which each example is stratified."""
    if examples.labels is None or examples.is_tagged:
        return [""] * len(examples)
    if not examples.is_multi_label:
        return examples.labels
    counts = Counter(label for labels in examples.labels for label in labels)
    return [min(labels, key=lambda label: (counts[label], label), default="") for labels in examples.labels]


def _strata(examples: Examples, seed: int) -> dict[str, list[Group]]:
    """Label -> groups of copies in the order of their hash, last first. A group goes by its first example's label."""
    groups: dict[str, Group] = defaultdict(list)
    for i, content in enumerate(examples.contents()):
        groups[content].append(i)
    labels, strata = _strata_labels(examples), defaultdict(list)
    for content in sorted(groups, key=lambda content: _address(seed, content), reverse=True):
        strata[labels[groups[content][0]]].append(groups[content])
    return {label: strata[label] for label in sorted(strata)}


def _sizes(strata: dict[str, list[Group]]) -> dict[str, int]:
    return {label: sum(map(len, groups)) for label, groups in strata.items()}


def _address(seed: int, content: str) -> bytes:
    return hashlib.sha256(f"jaxft/v1/split\0{seed}\0{content}".encode()).digest()


def _quotas(counts: dict[str, int], share: float, left: dict[str, int]) -> dict[str, int]:
    """Examples to draw from each stratum: its count times `share`, rounded so that the sum is the share of the whole.

    Largest remainders go up, ties by label; never more than the stratum has left to give.
    """
    exact = {label: counts[label] * share for label in left}
    quotas = {label: min(math.floor(value), left[label]) for label, value in exact.items()}
    missing = max(round(sum(exact.values())) - sum(quotas.values()), 0)
    able = [label for label in exact if quotas[label] < left[label]]
    for label in sorted(able, key=lambda label: (quotas[label] - exact[label], label))[:missing]:
        quotas[label] += 1
    return quotas


def _draw(groups: list[Group], quota: int) -> list[int]:
    """Takes groups off the end of `groups` while they fit into `quota`; ones too large stay."""
    drawn: list[int] = []
    passed: list[Group] = []
    while groups and len(drawn) < quota:
        group = groups.pop()
        if len(drawn) + len(group) <= quota:
            drawn += group
        else:
            passed.append(group)
    groups += reversed(passed)
    return drawn


def _give_back(examples: Examples, parts: dict[str, list[int]], train: list[int]) -> None:
    """Moves examples (with their copies) back to train for every label that train lacks.

    Only copies with different labels and multi-label examples can lack one: each stratum kept a group in train.
    """
    if examples.labels is None or examples.is_tagged:
        return
    names = [labels if examples.is_multi_label else [labels] for labels in examples.labels]
    seen = {label for i in train for label in names[i]}
    contents = examples.contents()
    for part in parts.values():
        for i in sorted(part):
            if not seen.issuperset(names[i]) and i in part:
                back = [j for j in part if contents[j] == contents[i]]
                part[:] = [j for j in part if contents[j] != contents[i]]
                train += back
                seen.update(label for j in back for label in names[j])


def _check_size(name: str, size: int, share: float | None, examples: Examples) -> None:
    if size:
        return
    total, labels = len(examples), _label_count(examples)
    if share is None:
        raise UserError(
            f"{examples.source}: train", f"nothing is left of {total:,} examples", "give more data or smaller fractions"
        )
    what = f"a fraction of {share:g} of {total:,} examples{labels} holds none"
    raise UserError(f"data.{name}", what, f"a larger fraction, or a file of its own (`data.{name}: FILE`)")


def _label_count(examples: Examples) -> str:
    if examples.labels is None or examples.is_tagged:
        return ""
    return f" ({len(set(_strata_labels(examples))):,} labels, each of which keeps one in train)"
