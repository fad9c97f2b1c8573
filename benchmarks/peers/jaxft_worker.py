"""jaxft on CoNLL-2003, with its own packing, order and training step: a worker of `benchmarks/finetune.py`."""

from __future__ import annotations

import argparse

import conll
import jax
import machine
import protocol

from jaxft.recipe import Data, Optim, Recipe, Train


def make_trainer(recipe: Recipe):
    """The library's training as an object with `run(steps) -> (seconds, real tokens, padded tokens)`.

    Endless: `run` goes on where the last one ended, into the next epoch. Seconds count packing, the copy to the device
    and waiting for the last step's parameters; tokens are those of the steps run. `setting()` tells row shapes and
    kernels.
    """
    raise NotImplementedError("jaxft.train has no trainer yet")


class Trainer:
    """The library's trainer behind the peers' protocol."""

    def __init__(self, options: argparse.Namespace):
        self.recipe = conll_recipe(options)
        self.trainer = make_trainer(self.recipe)

    def run(self, steps: int) -> tuple[float, int, int]:
        return self.trainer.run(steps)

    def setting(self) -> str:
        details = self.trainer.setting() if hasattr(self.trainer, "setting") else "packed"
        return f"{self.recipe.dtype}, {self.recipe.numerics}, {details}"

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
    optim = Optim(name="adamw", learning_rate=5e-5, schedule="linear", warmup=0.1, weight_decay=0.01, clip_norm=1.0)
    choices = {"numerics": options.numerics, "dtype": options.dtype, "seed": options.seed}
    return Recipe(task="tag", model=str(model), data=data, train=train, optim=optim, **choices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    conll.add_folders(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="operands of matrix products")
    parser.add_argument("--numerics", choices=["canonical", "fast"], default="canonical")
    parser.add_argument("--packing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--serve", action="store_true", required=True, help="be a worker: commands on standard input")
    options = parser.parse_args()
    protocol.serve(lambda: Trainer(options), "jaxft", "jax", "jaxlib", "flax", "optax", "numpy")


if __name__ == "__main__":
    main()
