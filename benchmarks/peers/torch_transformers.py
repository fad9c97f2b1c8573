"""PyTorch `transformers` on CoNLL-2003, written as plainly and as fast as its users would write it.

The recipe: AdamW 5e-5 with linear decay after 10 % warm-up, weight decay 0.01 on weights alone, gradient norm clipped
at 1, dropout as the model's config says. Two uses:

    python benchmarks/peers/torch_transformers.py --seed 0 1 2 --out FILE   # train 3 epochs, score dev and test
    python benchmarks/peers/torch_transformers.py --serve                   # a worker of benchmarks/finetune.py

Leaves out: several devices, checkpoints, gradient accumulation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import conll
import machine
import numpy as np
import torch
from transformers import AutoModelForTokenClassification, get_linear_schedule_with_warmup
from transformers import logging as transformers_logging

EPOCHS = 3
SAVE_EVERY = 50  # steps, with --resume
LEARNING_RATE = 5e-5
WARMUP = 0.1
WEIGHT_DECAY = 0.01
CLIP_NORM = 1.0
GROUPINGS = {"none": "random order", "length": "length-grouped", "pad128": "padded to 128"}


Batch = tuple[dict[str, torch.Tensor], int]  # padded tensors [B, L], real tokens


class Trainer:
    """Model, optimiser and an endless stream of batches; `run(steps)` trains and times."""

    def __init__(self, options: argparse.Namespace, seed: int, total_steps: int):
        data, folder = conll.folders(options)
        torch.manual_seed(seed)
        self.options = options
        self.device = torch.device(options.device)
        self.sentences = conll.encode(data, folder, "train")
        self.model = load(folder, options).to(self.device).train()
        self.forward: Callable[..., Any] = (
            torch.compile(self.model, dynamic=options.grouping != "pad128") if options.compile else self.model
        )
        self.optimizer = torch.optim.AdamW(groups(self.model), lr=LEARNING_RATE, fused=options.fused)
        warmup_steps = int(np.ceil(WARMUP * total_steps))
        self.schedule = get_linear_schedule_with_warmup(self.optimizer, warmup_steps, total_steps)
        self.batches = batches(self.sentences, options, seed)

    def step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """One update; returns the loss, still on the device."""
        with self.precision():
            loss = self.forward(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def run(self, steps: int) -> tuple[float, int, int]:
        """(seconds, real tokens, computed tokens) of `steps` updates, batching and copies included."""
        real, computed = 0, 0
        start = time.perf_counter()
        for _ in range(steps):
            batch, tokens = next(self.batches)
            real += tokens
            computed += batch["input_ids"].numel()
            self.step({name: values.to(self.device, non_blocking=True) for name, values in batch.items()})
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, real, computed

    def precision(self) -> contextlib.AbstractContextManager:
        """Automatic mixed precision where bf16 is asked for."""
        if self.options.dtype == "f32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def device_name(self) -> str:
        """What it computes on."""
        return torch.cuda.get_device_name() if self.device.type == "cuda" else machine.cpu()

    def peak_device_mb(self) -> float | None:
        """Highest memory taken on the GPU, MiB; none on a CPU."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else None

    def setting(self) -> str:
        """The choices that matter for speed, in words."""
        options = self.options
        words = [options.dtype, options.attention, "fused AdamW" if options.fused else "AdamW"]
        words += [f"{options.matmul} f32 products"] * (options.matmul != "highest")
        words += ["torch.compile"] * options.compile + [GROUPINGS[options.grouping]]
        return ", ".join(words)


def load(folder: Path, options: argparse.Namespace) -> torch.nn.Module:
    """The pretrained encoder with a new tag head."""
    names = dict(enumerate(conll.TAGS))
    model = AutoModelForTokenClassification.from_pretrained(
        folder, id2label=names, label2id={name: at for at, name in names.items()}, attn_implementation=options.attention
    )
    return model.float()


def groups(model: torch.nn.Module) -> list[dict]:
    """Parameter groups: no weight decay on biases and LayerNorm."""
    plain = [p for name, p in model.named_parameters() if name.endswith("bias") or "LayerNorm" in name]
    decayed = [p for name, p in model.named_parameters() if not (name.endswith("bias") or "LayerNorm" in name)]
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]


class Rows(torch.utils.data.Dataset):
    """A batch of padded tensors and its number of real tokens, by list of sentence indexes."""

    def __init__(self, sentences: conll.Sentences, width: int | None):
        self.sentences, self.width = sentences, width

    def __getitem__(self, indexes: list[int]) -> Batch:
        batch = conll.pad(self.sentences, np.array(indexes), self.width)
        tensors = {name: torch.from_numpy(values) for name, values in batch.items()}
        return tensors, int(batch["attention_mask"].sum())


def batches(sentences: conll.Sentences, options: argparse.Namespace, seed: int) -> Iterator[Batch]:
    """Padded batches without end: built in line on a CPU, by four worker processes with pinned memory for a GPU."""
    epochs = conll.order(sentences.lengths, options.grouping, seed)
    sampler = (batch.tolist() for epoch in epochs for batch in epoch)
    on_gpu = torch.device(options.device).type == "cuda"
    rows = Rows(sentences, conll.MAX_TOKENS if options.grouping == "pad128" else None)
    loader = torch.utils.data.DataLoader(
        rows, batch_size=None, sampler=sampler, num_workers=4 if on_gpu else 0, pin_memory=on_gpu
    )
    return iter(loader)


@torch.no_grad()
def score(trainer: Trainer, sentences: conll.Sentences) -> dict[str, float]:
    """Entity F1, precision, recall of the model on a split: seqeval as conlleval counts, and strict IOB2 F1."""
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    trainer.model.eval()
    by_length = np.argsort(sentences.lengths, kind="stable")
    predicted: list[list[str]] = [[] for _ in sentences.tags]
    for at in range(0, len(by_length), 2 * conll.BATCH_SIZE):
        indexes = by_length[at : at + 2 * conll.BATCH_SIZE]
        batch = conll.pad(sentences, indexes)
        inputs = {name: torch.from_numpy(batch[name]).to(trainer.device) for name in ("input_ids", "attention_mask")}
        with trainer.precision():
            best = trainer.model(**inputs).logits.argmax(-1).cpu().numpy()
        for index, tags in zip(indexes, conll.word_tags(sentences, indexes, best), strict=True):
            predicted[index] = tags
    trainer.model.train()
    gold = sentences.tags
    scores = {"f1": f1_score(gold, predicted), "precision": precision_score(gold, predicted)}
    scores |= {"recall": recall_score(gold, predicted)}
    scores |= {"strict_f1": f1_score(gold, predicted, mode="strict", scheme=IOB2)}
    return {name: np.asarray(value).item() for name, value in scores.items()}


def train(options: argparse.Namespace, seed: int) -> dict:
    """A whole run of one seed: its scores, steps and seconds."""
    data, folder = conll.folders(options)
    count = len(conll.read(data / conll.FILES["train"]))
    steps = options.steps or EPOCHS * -(-count // conll.BATCH_SIZE)
    trainer = Trainer(options, seed, steps)
    done, seconds, real = restore(trainer, options.resume, seed)
    while done < steps:
        part = min(SAVE_EVERY, steps - done)
        taken, tokens, _ = trainer.run(part)
        done, seconds, real = done + part, seconds + taken, real + tokens
        print(f"seed {seed} step {done}/{steps} {tokens / taken:.0f} real tokens/s", flush=True)
        if options.resume:
            save(trainer, options.resume, seed, (done, seconds, real))
    splits = {name: score(trainer, conll.encode(data, folder, name)) for name in ("dev", "test")}
    return {"seed": seed, **splits, "steps": steps, "train_s": seconds, "real_tokens": real}


def save(trainer: Trainer, path: Path, seed: int, progress: tuple[int, float, int]) -> None:
    """Writes all that an unfinished run on a CPU needs to go on."""
    parts = {"model": trainer.model, "optimizer": trainer.optimizer, "schedule": trainer.schedule}
    states = {name: part.state_dict() for name, part in parts.items()}
    whole = {"seed": seed, "progress": progress, "random": torch.get_rng_state(), **states}
    torch.save(whole, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def restore(trainer: Trainer, path: Path | None, seed: int) -> tuple[int, float, int]:
    """(steps, seconds, real tokens) done by an earlier run of this seed, whose state the trainer takes; else zeros."""
    if path is None or not path.exists():
        return 0, 0.0, 0
    saved = torch.load(path, map_location=trainer.device, weights_only=True)
    if saved["seed"] != seed:
        return 0, 0.0, 0
    trainer.model.load_state_dict(saved["model"])
    trainer.optimizer.load_state_dict(saved["optimizer"])
    trainer.schedule.load_state_dict(saved["schedule"])
    for _ in range(saved["progress"][0]):
        next(trainer.batches)
    torch.set_rng_state(saved["random"].cpu())
    return saved["progress"]


def main() -> None:
    options = arguments()
    transformers_logging.set_verbosity_error()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.matmul)
    if options.serve:
        import protocol

        protocol.serve(lambda: Trainer(options, options.seed[0], 10**6), "torch", "transformers", "numpy")
        return
    runs = json.loads(options.out.read_text())["runs"] if options.resume and options.out.exists() else []
    done = {run["seed"] for run in runs}
    for seed in (seed for seed in options.seed if seed not in done):
        runs.append(train(options, seed))
        print(json.dumps(runs[-1]), flush=True)
        if options.out:
            write(options, runs)


def write(options: argparse.Namespace, runs: list[dict]) -> None:
    """Writes all runs so far to options.out, with what they ran on."""
    device = torch.cuda.get_device_name() if torch.device(options.device).type == "cuda" else machine.cpu()
    record = {
        "peer": "torch_transformers",
        "command": "python benchmarks/peers/torch_transformers.py --seed " + " ".join(map(str, options.seed)),
        "setting": {name: getattr(options, name) for name in ("dtype", "attention", "fused", "compile", "grouping")},
        "recipe": {"epochs": EPOCHS, "batch_size": conll.BATCH_SIZE, "learning_rate": LEARNING_RATE, "warmup": WARMUP,
                   "weight_decay": WEIGHT_DECAY, "clip_norm": CLIP_NORM, "max_tokens": conll.MAX_TOKENS},
        "versions": machine.versions("torch", "transformers", "seqeval", "numpy"),
        "device": device,
        "date": machine.today(),
        "runs": runs,
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, help="stop after so many steps (default: 3 epochs)")
    parser.add_argument("--grouping", choices=list(GROUPINGS), default="none")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: autocast")
    parser.add_argument("--attention", choices=["eager", "sdpa"], default="sdpa")
    parser.add_argument("--fused", action=argparse.BooleanOptionalAction, default=True, help="fused AdamW")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--matmul", choices=["highest", "high", "medium"], help="of f32 (default: highest; GPU: high)")
    parser.add_argument("--threads", type=int, help="torch.set_num_threads")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="JSON file for the scores")
    parser.add_argument("--resume", type=Path, help="state file: go on where an interrupted run ended; needs --out")
    parser.add_argument("--serve", action="store_true", help="be a worker: commands on standard input")
    options = parser.parse_args()
    if options.resume and not options.out:
        parser.error("--resume needs --out, which tells the seeds that are done")
    options.matmul = options.matmul or ("highest" if options.device == "cpu" else "high")
    return options


if __name__ == "__main__":
    main()
