"""The card of an exported model: README.md with the metadata that model hubs read, written by huggingface_hub.

Names of local files stay out of the metadata, where only public ids make sense; the text gives them. The licence is the
base model's where that is known: a statement of where the weights came from, not legal advice.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from jaxft.report import tables
from jaxft.report.result import Result
from jaxft.report.run_folder import RunFolder

PIPELINES = {"classify": "text-classification", "tag": "token-classification"}
METRIC_IDS = {"mcc": "matthews_correlation"} | {
    name: name.rpartition("_")[2] for name in ("accuracy", "f1", "macro_f1", "micro_f1", "precision", "recall")
}
HUB_LICENCES = {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "gpl-3.0"}


def write(model_folder: Path, result: Result) -> None:
    """Writes README.md into the folder of the exported model."""
    RunFolder.write_text(model_folder / "README.md", card(result))


def card(result: Result) -> str:
    """The whole card: YAML front matter and Markdown."""
    parts = [
        f"---\n{metadata(result).to_yaml()}\n---\n",
        f"# {_name(result)}\n",
        _summary(result),
        "## Intended use\n",
        _use(result),
        "## Load it\n",
        _load(result),
        "## Training data\n",
        tables.to_markdown(tables.data(result)),
        _training(result),
        "## Scores\n",
        _scores(result),
        "## Limits\n",
        _limits(result),
    ]
    return "\n".join(parts)


def metadata(result: Result) -> ModelCardData:
    """The front matter: licence, base model, data, metrics, library, pipeline, scores."""
    base, data = _public_id(result.model), _public_id(result.data.name)
    licence = (result.model_licence or "").lower() or None
    other = licence is not None and licence not in HUB_LICENCES
    return ModelCardData(
        license="other" if other else licence,
        license_name=re.sub(r"[^a-z0-9.]+", "-", licence) if other and licence else None,
        base_model=base,
        datasets=[data] if data else None,
        metrics=sorted({METRIC_IDS[name] for name in result.after if name in METRIC_IDS}) or None,
        library_name="transformers",
        pipeline_tag=PIPELINES.get(result.task),
        tags=["bert", "jax", "jaxft"],
        model_name=_name(result) if result.after else None,  # makes an index of scores
        eval_results=_eval_results(result) or None,
    )


def _eval_results(result: Result) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=PIPELINES.get(result.task, result.task),
            dataset_type=_public_id(result.data.name) or "private",
            dataset_name=Path(result.data.name).name,
            dataset_split=result.scored,
            metric_type=METRIC_IDS[name],
            metric_name=name,
            metric_value=value,
        )
        for name, value in result.after.items()
        if name in METRIC_IDS
    ]


def _public_id(name: str) -> str | None:
    """`name` (without `:split`) where it can be an id (`name` or `org/name`), none where it is a local path."""
    name = name.partition(":")[0]
    local = Path(name).exists() or Path(name).suffix in (
        ".csv",
        ".tsv",
        ".jsonl",
        ".parquet",
        ".txt",
        ".conll",
        ".conllu",
    )
    return name if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) and not local else None


# --- the text --------------------------------------------------------------------------------------------------------


def _name(result: Result) -> str:
    stems = [re.sub(r"[^\w.]+", "-", Path(name.partition(":")[0]).stem) for name in (result.model, result.data.name)]
    return "-".join(stems)


def _summary(result: Result) -> str:
    base = f"`{result.model}`" + (f" ({result.model_source})" if result.model_source else "")
    text = f"{base}, fine-tuned on `{result.data.name}` for the task `{result.task}` by jaxft."
    if result.scored:
        text += f" {tables.sentence(result)}"
    return text + "\n"


def _use(result: Result) -> str:
    names = ", ".join(map(tables.escape, result.labels))
    what = {
        "classify": "Gives a text any number of these labels"
        if result.multi_label
        else "Gives a text one of these labels",
        "tag": "Gives each word one of these tags",
    }.get(result.task, "Predicts these labels")
    return f"{what}: {names}. Meant for texts like those it was trained on (see below).\n"


def _load(result: Result) -> str:
    extra = {"tag": ', aggregation_strategy="first"'}.get(result.task, ", top_k=None" if result.multi_label else "")
    pipeline = PIPELINES.get(result.task)
    hugging_face = (
        "In transformers (`MODEL` is this folder):\n\n```python\nfrom transformers import pipeline\n\n"
        f'model = pipeline("{pipeline}", model="MODEL"{extra})\nprint(model("A text of yours."))\n```\n\n'
    )
    ours = "In jaxft, one JSON line a text:\n\n```\njaxft predict MODEL --input FILE\n```\n"
    return (hugging_face if pipeline else "") + ours


def _training(result: Result) -> str:
    lines = [
        f"{result.steps:,} steps on at most {result.max_tokens} tokens a text ({result.truncated:,} examples were cut)."
    ]
    if result.data.licence:
        lines.append(f"Licence of the data, as its source states it: {tables.escape(result.data.licence)}.")
    lines.append(f"Matrix products in {result.dtype}, numerics `{result.numerics}`, on {tables.escape(result.device)}.")
    lines.append(f"Parameters (sha256): `{result.params_sha256}`.")
    return " ".join(lines) + "\n"


def _scores(result: Result) -> str:
    if not result.scored:
        return "There was no dev or test set to score.\n"
    parts = [tables.to_markdown(tables.before_after(result.before, result.dev, result.test, result.scored))]
    parts += [f"By {of}:\n\n{tables.to_markdown(tables.per_label(table, of))}" for of, table in result.tables.items()]
    return "\n".join(parts)


def _limits(result: Result) -> str:
    lines = [
        f"- Training saw at most {result.max_tokens} tokens of a text; longer texts were not measured.",
        "- Other languages, genres and times than those of the training data were not measured.",
        "- The scores come from one run; another seed gives somewhat other ones.",
        "- Biases of the base model and of the data were not examined.",
    ]
    weak = [label for label, row in result.per_class.items() if row["support"] and row["f1"] < 0.5]
    if weak:
        lines.append(f"- F1 is below 0.5 for: {', '.join(map(tables.escape, weak))}.")
    if result.scored == "dev":
        lines.append("- There was no test set: the scores are those of the dev set that also picked the parameters.")
    return "\n".join(lines) + "\n"
