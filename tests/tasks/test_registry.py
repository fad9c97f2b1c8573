"""The registry finds every task in the folder, and importing it is cheap."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

from jaxft import tasks
from jaxft.errors import UserError

HELPERS = {"base", "iob", "losses"}


def test_every_file_is_a_task_or_a_known_helper():
    files = {info.name for info in pkgutil.iter_modules(tasks.__path__)}
    assert set(tasks.names()) | HELPERS == files
    assert tasks.names() == ("classify", "tag")


@pytest.mark.parametrize("name", tasks.names())
def test_task_is_whole(name):
    task = tasks.get(name)
    assert task.name == name and task.head in ("classify", "tag") and task.default_metric in ("accuracy", "f1")
    for method in ("parse", "label_set", "targets", "loss", "probabilities", "decode", "score", "table"):
        assert callable(getattr(task, method))


def test_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match="unknown task 'clasify'; known: classify, tag — did you mean `classify`?"):
        tasks.get("clasify")


def test_naming_the_tasks_imports_no_jax():
    code = (
        "import sys; from jaxft import tasks; tasks.names(); sys.exit(not {'jax', 'datasets'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
