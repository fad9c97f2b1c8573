"""Settings that hold for every test, and the real models and data that tests share.

Several CPU devices, strict dtype promotion, no rank promotion, no model hub. Compiled programs are kept in pytest's
cache folder, so that a second run of the suite compiles little.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

DEVICES = 8

# Before jax is imported by anything.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "agg")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={DEVICES}".strip()

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("suite", deadline=None)  # nothing is timed: machines are busy
hypothesis.settings.load_profile("suite")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@contextlib.contextmanager
def benchmark(name: str) -> Iterator[ModuleType]:
    """A script of benchmarks/, loaded by its path, as tests see no folder of it."""
    folder = Path(__file__).parents[1] / "benchmarks"
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(folder))  # its neighbours
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(folder))
        del sys.modules[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="runs slow tests too, which a run of the suite leaves out")


def pytest_report_header(config: pytest.Config) -> str:
    return "slow tests: " + ("run" if config.option.slow else "left out; --slow, or a test that is named, runs them")


def pytest_configure(config: pytest.Config) -> None:
    """Who names files or tests means the slow ones too."""
    gc.set_threshold(200_000, 20, 100)  # tracing makes and drops so many objects that a sixth of the time went there
    named = config.args_source == pytest.Config.ArgsSource.ARGS or config.option.keyword or config.option.markexpr
    config.option.slow = bool(config.option.slow or named)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and config.cache is not None:
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("xla")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that no worker is left with one at the end, or without them; skips what needs
    PyTorch where it is absent, with the reason."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    paths = {item.path for item in slow}
    items.sort(key=lambda item: item.path not in paths)
    if not config.option.slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    try:
        import torch  # noqa: F401
    except ImportError:
        reason = "PyTorch is not installed (the torch extra; JAXFT_TEST_TORCH=0 leaves it out)"
        for item in items:
            if item.get_closest_marker("torch"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of the pinned MiniLM: config.json, model.safetensors, tokenizer files."""
    from jaxft import assets

    return assets.fetch("minilm")


@pytest.fixture(scope="session")
def rxnbert() -> Path:
    """Folder of the pinned chemistry BERT: config.json, pytorch_model.bin (a pickle), vocab.txt."""
    from jaxft import assets

    return assets.fetch("rxnbert")


@pytest.fixture(scope="session")
def conll2003() -> dict[str, Path]:
    """train, dev, test -> CoNLL file."""
    from jaxft import assets

    return assets.splits("conll2003")


@pytest.fixture(scope="session")
def sms_spam() -> Path:
    """CSV with text, label (ham | spam): 5,574 rows."""
    from jaxft import assets

    return assets.splits("sms_spam")["train"]


@pytest.fixture(scope="session")
def trec() -> Path:
    """CSV with text, label (6 coarse), fine (50): 5,452 rows."""
    from jaxft import assets

    return assets.splits("trec")["train"]


@pytest.fixture(scope="session")
def tiny_model(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes folders of BERTs of width 32, drawn at random, with MiniLM's tokenizer."""
    from jaxft import prng
    from jaxft.model import folder
    from jaxft.model.config import BertConfig
    from jaxft.model.initial import initialise

    def make(
        head: str = "none",
        labels: tuple[str, ...] = (),
        *,
        multi_label: bool = False,
        positions: int = 64,
        layers: int = 1,
    ) -> Path:
        """head: of `jaxft.model.heads.HEADS`. positions: longest piece of text."""
        path = tmp_path_factory.mktemp("tiny")
        config = BertConfig(30522, 32, layers, 4, 64, max_position_embeddings=positions, initializer_range=0.2)
        params = initialise(config, head, len(labels), prng.stream("init", 0))
        folder.save(path, config, params, head, labels, multi_label)
        folder.copy_tokenizer(minilm, path)
        return path

    return make
