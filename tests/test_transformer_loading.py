import hashlib
import http.server
import json
import logging
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from checkpoints import TEXTS, load, save_classifier, save_encoder, save_tokenizer
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

import models
from models import DeviceError, ModelLoadError, transformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def test_a_checkpoint_is_known_by_its_name_and_by_the_hash_of_its_weights_and_config(folder: Path, copy: Path) -> None:
    content = (folder / "model.safetensors").read_bytes() + (folder / "config.json").read_bytes()
    scorer = load(folder)
    assert (scorer.name, scorer.revision) == ("tiny", hashlib.sha256(content).hexdigest()[:12])
    assert load(copy).revision == scorer.revision
    save_classifier(copy, seed=2)
    assert load(copy).revision != scorer.revision


def test_the_built_in_checkpoint_is_called_default(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(transformer, "BUILT_IN", folder)
    scorer = models.load(device="cpu")
    assert scorer.name == "default"
    assert scorer.score(TEXTS) == load(folder, precision="auto").score(TEXTS)


def test_the_built_in_checkpoint_lies_beside_the_code() -> None:
    assert Path(models.__file__).parent / "default" == transformer.BUILT_IN


def test_a_local_folder_is_loaded_without_a_network(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("no connection may be opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(load(folder).score(TEXTS)) == len(TEXTS)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, and no way to the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_hub_checkpoint_is_known_by_its_name_and_commit(hub_cache: Path, folder: Path) -> None:
    repository = hub_cache / "models--acme--tiny"
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    scorer = models.load("acme/tiny", "cpu")
    assert (scorer.name, scorer.revision) == ("acme/tiny", COMMIT[:12])
    assert scorer.score(TEXTS) == load(folder, precision="auto").score(TEXTS)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as a download needs, over the files of one repository."""

    repository: Path
    fetched: set[str]

    def do_GET(self) -> None:
        files = {path.relative_to(self.repository).as_posix(): path for path in self.repository.rglob("*.*")}
        if self.path.startswith("/api/models/acme/tiny/"):
            body = json.dumps({"id": "acme/tiny", "sha": COMMIT, "siblings": [{"rfilename": f} for f in files]}).encode()
        else:
            file = self.path.removeprefix(f"/acme/tiny/resolve/{COMMIT}/")
            self.fetched.add(file)
            body = files[file].read_bytes()
        self.send_response(200)
        headers = {"Content-Length": str(len(body)), "ETag": f'"{len(body)}"', "X-Repo-Commit": COMMIT}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The default prints every request."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, copy: Path) -> Iterator[type[Hub]]:
    """A hub on this machine, with one repository."""
    Hub.repository, Hub.fetched = copy, set()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield Hub
        server.shutdown()
        thread.join()


def test_pickles_and_other_files_of_a_hub_checkpoint_are_never_fetched(hub: type[Hub], folder: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "README.md", "evil.py", "onnx/model.safetensors"):
        (hub.repository / name).parent.mkdir(exist_ok=True)
        (hub.repository / name).write_bytes(b"not to be read")
    scorer = models.load("acme/tiny", "cpu")
    assert hub.fetched == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert scorer.score(TEXTS) == load(folder, precision="auto").score(TEXTS)


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("name", ["acme/missing", "./no/such/folder", "/no/such/folder", "~/no/such/folder"])
def test_a_name_that_leads_nowhere_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(ModelLoadError, match="neither a folder here nor a Hugging Face model") as refusal:
        models.load(name, "cpu")
    assert repr(name) in str(refusal.value)
    assert refusal.value.__cause__ is not None


def test_pickled_weights_are_refused(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"pickled weights \(pytorch_model.bin\).*needs model.safetensors"):
        load(copy)


def test_pickled_weights_are_not_read_where_safetensors_go_by_another_name(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    with pytest.raises(ModelLoadError, match=r"no file named model\.safetensors"):
        load(copy)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="holds no weights"):
        load(tmp_path)


def test_an_encoder_without_a_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"lacks weights.*classifier.*score at random.*fine-tune"):
        load(save_encoder(tmp_path), labels=("negative", "positive"))


def test_a_head_of_another_shape_is_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["classifier.weight"], weights["classifier.bias"] = torch.zeros(5, 32), torch.zeros(5)
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadError, match="cannot load"):
        load(copy)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_broken_file_is_refused(copy: Path, file: str) -> None:
    (copy / file).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ModelLoadError, match="cannot load") as refusal:
        load(copy)
    assert refusal.value.__cause__ is not None


def test_a_missing_config_is_refused(copy: Path) -> None:
    (copy / "config.json").unlink()
    with pytest.raises(ModelLoadError, match="cannot load"):
        load(copy)


def test_a_missing_tokenizer_is_refused_and_not_made_up(copy: Path) -> None:
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelLoadError, match="tokenizer"):
        load(copy)


def test_another_models_tokenizer_is_refused(copy: Path) -> None:
    save_tokenizer(copy, words=[f"word{n}" for n in range(100)])
    with pytest.raises(ModelLoadError, match="104 tokens, the model 19"):
        load(copy)


def test_a_tokenizer_that_cannot_pad_is_refused(copy: Path) -> None:
    save_tokenizer(copy, pad_token=None)
    with pytest.raises(ModelLoadError, match="no padding token"):
        load(copy)


def test_code_of_a_checkpoint_is_never_run(copy: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    (copy / "evil.py").write_text(f"open({str(witness)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="cannot load"):
        load(copy)
    assert not witness.exists()


def test_loading_is_silent_and_leaves_transformers_as_talkative_as_it_was(
    copy: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    save_tokenizer(copy, model_max_length=16)
    capfd.readouterr()
    log: Any = transformers_logging
    before = log.get_verbosity()
    log.set_verbosity_warning()
    log.enable_progress_bar()
    log.add_handler(caplog.handler)
    try:
        load(copy).score([*TEXTS, "awful " * 100])
        assert (log.get_verbosity(), log.is_progress_bar_enabled()) == (logging.WARNING, True)
    finally:
        log.remove_handler(caplog.handler)
        log.set_verbosity(before)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_threads_are_set_when_they_are_given(folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        load(folder, threads=1)
        assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        load(folder)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_replicas_compute_on_one_thread_each_and_all_others_keep_their_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen, forward = torch.get_num_threads(), [], transformer.Transformer.forward

    def watched(self: transformer.Transformer, rows: Any) -> Any:
        seen.append(torch.get_num_threads())
        return forward(self, rows)

    monkeypatch.setattr(transformer.Transformer, "forward", watched)
    try:
        with models.Engine(load(folder, threads=2)) as engine:
            engine.score(TEXTS)
        with ThreadPoolExecutor(1) as new:
            assert new.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


@pytest.mark.parametrize(
    ("device", "able", "found"),
    [("cpu", True, "bf16"), ("cpu", False, "fp32"), ("cuda:1", True, "bf16"), ("cuda", False, "bf16")],
)
def test_the_precision_is_bf16_where_there_are_instructions_for_it_unless_another_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, device: str, able: bool, found: str
) -> None:
    monkeypatch.setattr(transformer, "has_bf16", lambda: able)
    assert transformer.find_precision("auto", torch.device(device)) == found
    assert transformer.find_precision("fp32", torch.device(device)) == "fp32"
    assert caplog.text == ""
    assert transformer.find_precision("bf16", torch.device(device)) == "bf16"
    assert ("no instructions for bf16" in caplog.text) == (found == "fp32")


def test_a_checkpoint_is_computed_in_the_precision_that_is_asked_for(folder: Path) -> None:
    scorer = load(folder, precision="bf16")
    assert (scorer.precision, {p.dtype for p in scorer.model.parameters()}) == ("bf16", {torch.bfloat16})
    for one, other in zip(scorer.score(TEXTS), load(folder).score(TEXTS), strict=True):
        assert one.score == pytest.approx(other.score, abs=0.05)


def test_a_precision_of_another_name_is_refused(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="auto, fp32 and bf16"):
        load(folder, precision="fp8")
    with pytest.raises(ModelLoadError, match="lexicon has no precision"):
        models.load("lexicon", precision="fp32")


@pytest.mark.parametrize("machine", ["x86_64", "arm64"])
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True)])
def test_bf16_is_slow_only_where_the_processor_is_known_to_lack_it(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: tuple[bool, bool]
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    for name, there in zip(("_is_avx512_bf16_supported", "_is_amx_tile_supported"), flags, strict=True):
        monkeypatch.setattr(torch.cpu, name, lambda there=there: there, raising=False)
    assert transformer.has_bf16() == (any(flags) or machine == "arm64")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps", "", "CPU"])
def test_a_device_of_another_name_is_refused(folder: Path, device: str) -> None:
    with pytest.raises(DeviceError, match="auto, cpu, cuda and cuda:N"):
        models.load(folder, device)


@pytest.mark.parametrize(("devices", "asked"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, devices: int, asked: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with pytest.raises(DeviceError, match=f"{asked} is not here: torch sees {devices} CUDA devices"):
        models.load("acme/never-fetched", asked)


@pytest.mark.parametrize(("devices", "asked", "found"), [(0, "auto", "cpu"), (1, "auto", "cuda"), (2, "cuda:1", "cuda:1")])
def test_a_device_that_is_there_is_found(monkeypatch: pytest.MonkeyPatch, devices: int, asked: str, found: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    assert str(transformer.find_device(asked)) == found


def test_importing_models_and_the_lexicon_needs_no_torch() -> None:
    code = (
        "import sys, models\n"
        "assert models.load('lexicon').score(['thank you'])[0].label == 'positive'\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'transformers', 'numpy', 'tokenizers'}))"
    )
    root = Path(models.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_checkpoint_that_ships_is_at_most_50_mb() -> None:
    assert sum(path.stat().st_size for path in transformer.BUILT_IN.iterdir()) <= 50e6
