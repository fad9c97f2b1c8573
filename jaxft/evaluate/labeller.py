"""A fine-tuned model in use: new text in, labels with probabilities out; labelled text in, scores out.

Any folder that holds a BertForSequenceClassification or BertForTokenClassification is taken, whoever trained it. Texts
over the limit are cut into overlapping windows, so that nothing is left out: a text's probabilities are the mean over
its windows, a word's come from the window in which it has most context. Regression is left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft import assets, recipe, tasks
from jaxft.data import doctor, pack, words
from jaxft.data.batches import Dataset
from jaxft.data.encode import Encoded, encode, load_tokenizer
from jaxft.data.examples import Examples
from jaxft.data.read import read
from jaxft.errors import Problems, UserError
from jaxft.evaluate.predict import Predictions, Predictor
from jaxft.evaluate.score import Scored, decode, score
from jaxft.model import folder as model_folder
from jaxft.model.config import read as read_config
from jaxft.model.heads import Bert
from jaxft.recipe import Data, Recipe
from jaxft.tasks import iob
from jaxft.train.setup import check_tokens, dtype_of

_FEW_TOKENS = 512
"""Calls with no more tokens than this use small batches of so many tokens, so that a short text is quickly done."""
_CLOSED = {"S": "B", "U": "B", "E": "I", "L": "I", "B": "B", "I": "I"}

Text = str | Sequence[str]


class Labeller:
    """A model folder, opened: `predict` labels new text, `score` measures on labelled text.

    folder: where it was found. task: classify or tag. labels: the C names in the order of the logits. multi_label: any
    number of labels a text. max_tokens: longest piece of text the model sees at once. recipe: of the run that made the
    model, where the folder still lies in its run folder.
    """

    def __init__(self, folder: str | Path, *, max_tokens: int | None = None, dtype: str = "auto") -> None:
        """folder: a model folder, the folder of a finished run, an asset name or a hub id.

        max_tokens: none: as the model was trained, else as many as it has positions. dtype: of matrix products, as in
        recipes. Raises UserError on anything that is not a fine-tuned BERT.
        """
        self.folder = find(folder)
        config = read_config(self.folder)
        head = _head(model_folder.head_of(config, str(self.folder / "config.json")), self.folder)
        config, params, _ = model_folder.load(self.folder, head)
        self.task, self.config, self.labels = tasks.get(head), config, config.labels
        self.multi_label = config.problem_type == "multi_label_classification"
        self.recipe = recipe_of(self.folder)
        self.tokenizer = load_tokenizer(self.folder)
        self.max_tokens = self._limit(max_tokens)
        self._params = jax.tree.map(jnp.asarray, params)
        unroll = config.num_hidden_layers if jax.default_backend() == "cpu" else 1
        model = Bert(config, head, len(self.labels), dtype=dtype_of(dtype), unroll=unroll)
        self._few = Predictor(model, self.task, multi_label=self.multi_label, tokens_a_batch=_FEW_TOKENS)
        self._many = Predictor(model, self.task, multi_label=self.multi_label)

    # --- new text ----------------------------------------------------------------------------------------------------

    def predict(
        self, texts: Text | Sequence[Text], pairs: str | Sequence[str] | None = None, *, top: int | None = None
    ) -> list[dict[str, Any]]:
        """One dict a text, in order. texts: one text or many; pairs: the second text of each, for models of pairs.

        classify     {"label", "probability", "probabilities": {label: probability}}, likeliest first, `top` of them
        multi-label  {"labels": [{"label", "probability"}], "probabilities": ...}: the labels from one half on
        tag          {"tokens": [{"text", "tag", "start", "end"}], "spans": [{"label", "text", "start", "end",
                     "probability"}]}

        Tagging cuts raw text by the rule of data/words.py; a list of words is taken as it is (then give a list of such
        lists). start and end are characters of the text (of the words joined by single spaces). A span's probability is
        the mean over its words of the likeliest tag's.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        pairs = [pairs] if isinstance(pairs, str) else None if pairs is None else list(pairs)
        _check_texts(texts, pairs, self.task.head)
        if self.task.head == "tag":
            return self._tag(texts)
        examples = _unlabelled(texts, pairs)
        if not len(examples):
            return []
        rows = self._probabilities(examples, self._encode(examples, self.max_tokens, "window")).probabilities
        return [self._classified(row, top) for row in rows]

    def _classified(self, row: np.ndarray, top: int | None) -> dict[str, Any]:
        order = np.argsort(-row, kind="stable")[:top]
        probabilities = {self.labels[c]: float(row[c]) for c in order}
        found = self.task.decode(row, self.labels, multi_label=self.multi_label)
        if self.multi_label:
            labels = [{"label": label, "probability": probability} for label, probability in found]
            return {"labels": labels, "probabilities": probabilities}
        return {"label": found[0], "probability": found[1], "probabilities": probabilities}

    def _tag(self, texts: list[Any]) -> list[dict[str, Any]]:
        cut = [(text, words.split(text)) if isinstance(text, str) else words.joined(list(text)) for text in texts]
        present = [number for number, (_, found) in enumerate(cut) if found]
        results: list[dict[str, Any]] = [{"tokens": [], "spans": []} for _ in cut]
        if not present:
            return results
        examples = _unlabelled([[word.text for word in cut[number][1]] for number in present], None)
        rows = self._probabilities(examples, self._encode(examples, self.max_tokens, "window")).probabilities
        for number, row in zip(present, rows, strict=True):
            results[number] = self._tagged(*cut[number], row)
        return results

    def _tagged(self, text: str, found: list[words.Word], row: np.ndarray) -> dict[str, Any]:
        """row: f32 [words, C], NaN for a word that the tokenizer drops (control characters): it gets no tag but O."""
        tags, spans = self._decode(row)
        tokens = [
            {"text": word.text, "tag": tag, "start": word.start, "end": word.end}
            for word, tag in zip(found, tags, strict=True)
        ]
        likeliest = row.max(-1)
        listed = []
        for kind, first, after in spans:
            start, end = found[first].start, found[after - 1].end
            probability = float(np.nanmean(likeliest[first:after]))
            listed.append(
                {"label": kind, "text": text[start:end], "start": start, "end": end, "probability": probability}
            )
        return {"tokens": tokens, "spans": listed}

    def _decode(self, row: np.ndarray) -> tuple[list[str], list[iob.Span]]:
        """IOB2 tags and their entities; of labels that are no such tags (parts of speech), the labels and none."""
        if not _is_iob(self.labels):
            return [self.labels[c] for c in np.where(np.isnan(row), 0, row).argmax(-1)], []
        if _is_closed(self.labels):
            opened = tuple(label if label == "O" else _CLOSED[label[0]] + label[1:] for label in self.labels)
            outside = row.copy()
            outside[np.isnan(row).all(-1), self.labels.index("O")] = 1
            tags = iob.repair([opened[c] for c in np.nan_to_num(outside).argmax(-1)])
        else:
            tags = decode(self.task, row, self.labels)
        return tags, iob.spans(tags)

    # --- labelled text -----------------------------------------------------------------------------------------------

    def score(self, source: str, data: Data, problems: Problems | None = None) -> Scored:
        """Scores on a labelled source, read as `data` says (columns, format, max_tokens, overflow).

        problems: takes the warnings. Raises UserError with every problem, such as labels the model does not know.
        """
        found = Problems() if problems is None else problems
        return self.score_examples(self.read(source, data, found), data, found)

    def read(self, source: str, data: Data, problems: Problems) -> Examples:
        """The labelled examples of a source. Raises UserError with every problem of it."""
        data = dataclasses.replace(data, multi_label=self.multi_label)
        examples = self.task.parse(read(source, data, problems), data, problems)
        problems.raise_if_any()
        return examples

    def score_examples(self, examples: Examples, data: Data, problems: Problems | None = None) -> Scored:
        """As `score`, for examples already read."""
        self._check_scorable(data)
        found = Problems() if problems is None else problems
        self.task.targets(examples, self.labels, found)  # tells the labels that the model does not know
        found.raise_if_any()
        doctor.examine({"data": examples}, self.labels, data, None, found)
        found.raise_if_any()
        encoded = self._encode(examples, data.max_tokens, data.overflow)
        doctor.examine({}, (), data, {"data": encoded.lengths}, found)
        return score(self.task, examples, self._probabilities(examples, encoded), self.labels)

    def _check_scorable(self, data: Data) -> None:
        positions = self.config.max_position_embeddings
        if not 8 <= data.max_tokens <= positions:
            what = f"must lie between 8 and the model's {positions} positions, is {data.max_tokens}"
            raise UserError("max_tokens", what)
        if self.task.head == "tag" and (_is_closed(self.labels) or not _is_iob(self.labels)):
            what = f"its labels are not IOB2 tags: {', '.join(self.labels[:6])}, ..."
            raise UserError(str(self.folder / "config.json"), what, "such models can predict, but not be scored")

    # --- both --------------------------------------------------------------------------------------------------------

    def _encode(self, examples: Examples, max_tokens: int, overflow: Any) -> Encoded:
        encoded = encode(examples, self.tokenizer, max_tokens=max_tokens, overflow=overflow, cache=False)
        check_tokens(encoded, self.config, str(self.folder))
        return encoded

    def _probabilities(self, examples: Examples, encoded: Encoded) -> Predictions:
        per_token = self.task.head == "tag"
        size = len(encoded.tokens) if per_token else encoded.num_examples
        data = Dataset(encoded, np.zeros(size, np.int32), per_token)
        num_words = [len(text) for text in examples.texts] if per_token else []
        widths = pack.widths_for(self.max_tokens, int(encoded.piece_lengths.max()))
        if len(encoded.tokens) <= _FEW_TOKENS:
            return self._few(self._params, data, widths[-1:], num_words)
        return self._many(self._params, data, widths, num_words)

    def _limit(self, max_tokens: int | None) -> int:
        positions = self.config.max_position_embeddings
        if max_tokens is None:
            trained = self.recipe.data.max_tokens if self.recipe else self.tokenizer.model_max_length
            return min(trained, positions, pack.WIDTHS[-1])
        if not 8 <= max_tokens <= positions:
            raise UserError("max_tokens", f"must lie between 8 and the model's {positions} positions, is {max_tokens}")
        return max_tokens


def find(name: str | Path) -> Path:
    """The model folder that a name leads to; for the folder of a run, its model/. Raises UserError."""
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").exists():
        if (path / "model" / "config.json").is_file():
            return path / "model"
        if (path / "metrics.jsonl").is_file():
            raise UserError(str(path), "this run did not finish, so there is no model in it", "train it again")
    return assets.resolve_model(name, progress=True)


def recipe_of(folder: Path) -> Recipe | None:
    """The recipe of the run whose model this is; none where it was moved out of its run folder."""
    path = folder.resolve().parent / "recipe.yaml"
    return recipe.load(path) if folder.resolve().name == "model" and path.is_file() else None


def _head(head: str, folder: Path) -> str:
    if head not in ("classify", "tag"):
        what = f"holds a model with the head {head!r}: it was not fine-tuned to classify or tag"
        raise UserError(str(folder), what, "fine-tune it first: `jaxft init classify` prints a recipe")
    return head


def _check_texts(texts: list[Any], pairs: list[Any] | None, head: str) -> None:
    """Raises TypeError on what is no text, UserError where pairs do not fit."""
    for number, text in enumerate(texts):
        is_words = head == "tag" and not isinstance(text, str) and all(isinstance(word, str) for word in text)
        if not (isinstance(text, str) or is_words):
            expected = "text or a list of words" if head == "tag" else "text"
            raise TypeError(f"texts[{number}]: expected {expected}, came {type(text).__name__} {text!r:.40}")
    if pairs is None:
        return
    if head == "tag":
        raise UserError("pairs", "a tagging model takes one text, not two")
    if len(pairs) != len(texts):
        raise UserError("pairs", f"{len(pairs)} second texts for {len(texts)} first ones", "give one for each")
    for number, text in enumerate(pairs):
        if not isinstance(text, str):
            raise TypeError(f"pairs[{number}]: expected text, came {type(text).__name__} {text!r:.40}")


def _unlabelled(texts: list[Any], pairs: list[str] | None) -> Examples:
    where = [f"text {number}" for number in range(1, len(texts) + 1)]
    return Examples(texts, pairs, None, where, "texts", "")


def _is_closed(labels: tuple[str, ...]) -> bool:
    """Whether tags are IOBES or BILOU."""
    return _is_iob(labels) and any(label[0] in "SEUL" for label in labels if label != "O")


def _is_iob(labels: tuple[str, ...]) -> bool:
    return "O" in labels and all(label == "O" or re.fullmatch(r"[BIESLU]-.+", label) for label in labels)
