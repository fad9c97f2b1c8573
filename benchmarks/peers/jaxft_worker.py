"""jaxft on CoNLL-2003, with its own packing, order and training step: a worker of `benchmarks/finetune.py`."""

from __future__ import annotations

import argparse
import itertools
import time

import conll
import jax
import machine
import protocol

from jaxft import allocator, prng
from jaxft.data.batches import StepBatch
from jaxft.data.prefetch import Prefetch
from jaxft.recipe import Data, Optim, Recipe, Train, stream_seeds
from jaxft.train import optim, setup, step
from jaxft.train.compiled import Compiled, Info


class Trainer:
    """The library's step and batches, without scoring and reports; `run(steps)` trains and times.

    Endless: past the recipe's last step it goes round again. Every planned shape is compiled here, before any timing.
    """

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        made = setup.set_up(recipe)
        trainable, frozen = made.split()
        optimiser = optim.make(recipe.optim, made.num_steps)
        model = made.model(training=True)
        functions = step.make(model, made.task, optimiser, made.partition, recipe.train.label_smoothing)
        self.compiled = Compiled(functions, numerics=recipe.numerics)
        dropout_key = prng.device_words(prng.stream("dropout", stream_seeds(recipe)["dropout"]))
        self.constants = self.compiled.place(step.Constants(frozen, dropout_key, None))
        self.state = self.compiled.place(step.init(trainable, optimiser))
        batches = made.batches()
        self.make = batches.make
        self.compile_all(made.num_steps, len(batches.shapes))
        self.prefetch = Prefetch(self.make, itertools.cycle(range(made.num_steps)))
        self.batches = iter(self.prefetch.__enter__())

    def compile_all(self, num_steps: int, num_shapes: int) -> None:
        """Takes one step of each shape that the run will meet."""
        seen = set()
        for batch in map(self.make, range(num_steps)):
            if batch.shape not in seen:
                seen.add(batch.shape)
                self.step(batch)
            if len(seen) == num_shapes:
                return

    def step(self, batch: StepBatch) -> Info:
        """One update."""
        self.state, info = self.compiled(self.state, batch.arrays, batch.epoch, self.constants)
        return info

    def run(self, steps: int) -> tuple[float, int, int]:
        """(seconds, real tokens, computed tokens) of `steps` updates; each loss is read one step later, as in a run."""
        real, computed, before = 0, 0, None
        start = time.perf_counter()
        for _ in range(steps):
            batch = next(self.batches)
            info = self.step(batch)
            if before is not None:
                before.loss.item()
            before = info
            real += batch.real_tokens
            computed += batch.arrays["tokens"].size
        jax.block_until_ready(self.state)
        return time.perf_counter() - start, real, computed

    def setting(self) -> str:
        shapes = ", ".join(f"{rows}x{tokens}" for *_, rows, tokens in self.compiled.shapes)
        return f"{self.recipe.dtype}, {self.recipe.numerics}, rows x tokens {shapes}"

    def device_name(self) -> str:
        device = jax.devices()[0]
        return machine.cpu() if device.platform == "cpu" else device.device_kind

    def peak_device_mb(self) -> float | None:
        return machine.jax_peak_device_mb()


def conll_recipe(options: argparse.Namespace) -> Recipe:
    """The peers' recipe: AdamW 5e-5, linear, 10 % warm-up, weight decay 0.01, clipped at 1, dropout 0.1, batch 32."""
    folder, model = conll.folders(options)
    data = Data(train=str(folder / conll.FILES["train"]), format="conll", max_tokens=conll.MAX_TOKENS)
    train = Train(epochs=3, batch_size=conll.BATCH_SIZE, dropout=0.1, packing=options.packing)
    optimiser = Optim(name="adamw", learning_rate=5e-5, schedule="linear", warmup=0.1, weight_decay=0.01, clip_norm=1.0)
    choices = {"numerics": options.numerics, "dtype": options.dtype, "seed": options.seed}
    return Recipe(task="tag", model=str(model), data=data, train=train, optim=optimiser, **choices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="operands of matrix products")
    parser.add_argument("--numerics", choices=["canonical", "fast"], default="canonical")
    parser.add_argument("--packing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--serve", action="store_true", required=True, help="be a worker: commands on standard input")
    options = parser.parse_args()
    allocator.tune()  # as the command line does
    protocol.serve(lambda: Trainer(conll_recipe(options)), "jaxft", "jax", "jaxlib", "flax", "optax", "numpy")


if __name__ == "__main__":
    main()
