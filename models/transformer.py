"""Any Hugging Face sequence-classification checkpoint as a Scorer: find, load, tokenize, forward, decode.

A hub checkpoint is first fetched as a folder (JSON, vocabulary and safetensors files only), so loading always reads a
local folder and never talks to a network. Weights are safetensors, never pickle; code of a checkpoint is never run.
"""

import hashlib
import logging
import platform
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub import snapshot_download
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from models.batching import BUDGETS, plan
from models.errors import DeviceError, ModelLoadError
from models.labels import map_labels
from models.packed import Packed, Pending
from models.runtimes import Compute, computing, packing, settled
from models.sentiment import LABELS, Label, Sentiment, decide, shares
from models.tokens import Row, Tokens

BUILT_IN = Path(__file__).parent / "default"
"""The checkpoint that ships with the package."""

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

log = logging.getLogger("callpulse.model")

THREADS = threading.Lock()
"""Held while torch's number of threads, which is the process's as well, is another for a moment."""


@dataclass(frozen=True, slots=True, eq=False)
class Transformer:
    """A loaded checkpoint. `classes` says for each logit which label it counts towards.

    `tokens` makes rows of texts; `budget` is the most padded tokens in a batch. `temperature` divides the logits (Guo et al.
    2017, arXiv:1706.04599); `least`: see models.sentiment.decide. Where the model is `packed`, rows are scored without padding;
    else `compute` does, or the model itself. `precision` names the runtime as well, unless that is eager. `replicas`: see
    models.staged.
    """

    name: str
    revision: str
    precision: str
    tokens: Tokens
    model: Any
    classes: tuple[Label, ...]
    budget: int
    temperature: float = 1.0
    least: float = 0.0
    packed: Packed | None = None
    compute: Compute | None = None
    replicas: int = 1

    exhausted: ClassVar[tuple[type[Exception], ...]] = (torch.cuda.OutOfMemoryError,)

    @property
    def device(self) -> str:
        """Where it computes: cpu, cuda:0, ..."""
        return str(self.model.device)

    def score(self, texts: Sequence[str]) -> list[Sentiment]:
        """One sentiment a text, in the order given, from batches of texts of similar length."""
        rows, truncated = self.tokenize(texts)
        scores: dict[int, Sentiment] = {}
        for batch in plan([self.length(row) for row in rows], self.budget):
            logits = self.forward([rows[index] for index in batch])
            scores.update(zip(batch, self.decode(logits, [truncated[index] for index in batch]), strict=True))
        return [scores[index] for index in range(len(rows))]

    def begin(self) -> None:
        """Several threads with a batch each wait less than several that share one (measured: a quarter more texts on two)."""
        if self.replicas > 1:
            with THREADS:
                before = torch.get_num_threads()  # asking ends this thread's lazy start, which would undo the next line
                torch.set_num_threads(1)  # of this thread, and of all that are new to torch from here on: so it is put back
                elsewhere = threading.Thread(target=torch.set_num_threads, args=(before,))
                elsewhere.start()
                elsewhere.join()

    def tokenize(self, texts: Sequence[str]) -> tuple[list[Row], list[bool]]:
        """See models.tokens."""
        return self.tokens.rows(texts)

    @staticmethod
    def length(row: Row) -> int:
        """Its tokens."""
        return len(row["input_ids"])

    @torch.inference_mode()
    def forward(self, rows: Sequence[Row]) -> torch.Tensor | Pending:
        """The logits [rows, classes], from one pass; on CUDA they may still be on their way."""
        if self.packed is not None:
            return self.packed.submit(rows)
        batch = self.tokens.padded(rows)
        if self.compute is not None:
            return self.compute(batch)
        logits: torch.Tensor = self.model(**batch.to(self.model.device)).logits
        return logits

    @staticmethod
    def wait(logits: torch.Tensor | Pending) -> torch.Tensor:
        """Until they are there."""
        return logits.wait() if isinstance(logits, Pending) else logits.cpu()

    def decode(self, logits: torch.Tensor | Pending, truncated: Sequence[bool]) -> list[Sentiment]:
        """A sentiment a row. No torch: each of its calls lets another thread have the interpreter, and waits to get it back."""
        rows, classes = self.wait(logits).tolist(), tuple(LABELS.index(label) for label in self.classes)
        return [
            decide(shares(row, classes, self.temperature), cut, self.least) for row, cut in zip(rows, truncated, strict=True)
        ]


def load(
    name: str | Path,
    device: str,
    labels: Sequence[str] | None = None,
    budget: int | None = None,
    threads: int | None = None,
    precision: str = "auto",
    runtime: str = "eager",
    *,
    packed: bool = True,
) -> Transformer:
    """See models.load, which this is without the fake. `packed` is for tests and benchmarks: without it, rows are padded."""
    device, precision = settled(runtime, device, precision)
    target = find_device(device)
    precision = find_precision(precision, target)
    if threads is not None:
        torch.set_num_threads(threads)
    budget = budget or BUDGETS[target.type]
    folder, revision = locate(name)
    tokenizer, model = read(folder, PRECISIONS[precision])
    model, limit = model.to(target).eval(), position_limit(model, tokenizer)
    # where a model has this table, no token types are the same as zeros; GPT-2, say, takes them for words
    tokens = Tokens(tokenizer, limit, untyped=any(name.endswith("token_type_embeddings") for name, _ in model.named_modules()))
    seen = [str(model.config.id2label.get(index)) for index in range(model.config.num_labels)]
    return Transformer(
        name=folder.name if Path(name).expanduser().is_dir() else str(name),
        revision=revision,
        precision=precision if runtime == "eager" else f"{precision}-{runtime}",
        tokens=tokens,
        model=model,
        classes=map_labels(seen, labels),
        budget=budget,
        packed=packing(model, limit, budget) if packed and runtime == "eager" else None,
        compute=computing(runtime, model, tokens),
        # compiled, a batch is computed by all threads: in others than it was compiled in, it would be compiled anew
        replicas=1 if target.type == "cuda" or runtime == "compile" else threads or torch.get_num_threads(),
        **calibration(folder, model),
    )


def calibration(folder: Path, model: Any) -> dict[str, float]:
    """What models.calibrate has stored in config.json under "callpulse"; nothing where it has not. Raises ModelLoadError."""
    stored = getattr(model.config, "callpulse", {})
    try:
        temperature, least = float(stored.get("temperature", 1)), float(stored.get("least", 0))
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelLoadError(f"{folder}: config.json: callpulse is not {{temperature, least}}: {stored!r}") from error
    if not (temperature > 0 and 0 <= least <= 1):
        raise ModelLoadError(f"{folder}: config.json: temperature must be above 0, least within 0 and 1: {stored!r}")
    return {"temperature": temperature, "least": least}


def find_device(device: str) -> torch.device:
    """What "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N" means here; raises DeviceError for others."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise DeviceError(f"no device is called {device!r}; there are auto, cpu, cuda and cuda:N")
    wanted = torch.device(device)
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted.type == "cuda" and (wanted.index or 0) >= present:
        raise DeviceError(f"{device} is not here: torch sees {present} CUDA devices; cpu and auto always work")
    return wanted


def find_precision(precision: str, device: torch.device) -> str:
    """What "auto", "fp32" or "bf16" means on this device; raises ModelLoadError for others. Says when it will be slow."""
    if precision not in ("auto", *PRECISIONS):
        raise ModelLoadError(f"no precision is called {precision!r}; there are auto, {' and '.join(PRECISIONS)}")
    fast = device.type != "cpu" or has_bf16()
    if precision == "bf16" and not fast:
        log.warning("this processor has no instructions for bf16 (AMX or AVX512-BF16): fp32 is faster here")
    return precision if precision != "auto" else "bf16" if fast else "fp32"


def has_bf16() -> bool:
    """Whether the CPU multiplies in bf16 by itself; torch has no public name for that, and true where it does not say."""
    asked = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return platform.machine() not in ("x86_64", "AMD64") or any(ask() if ask else True for ask in asked)


def locate(name: str | Path) -> tuple[Path, str]:
    """The folder of a checkpoint, fetched if it is on the hub, and its revision.

    The revision is 12 hex digits: of the commit for a hub checkpoint, else of the SHA-256 of weights and config.json.
    """
    folder = BUILT_IN if name == "default" else Path(name).expanduser()
    if name == "default" or folder.is_dir():
        check_weights(folder)
        return folder.resolve(), digest(folder)
    try:
        files = ["*.json", "*.txt", "*.model", "*.safetensors"]
        folder = Path(snapshot_download(str(name), allow_patterns=files, ignore_patterns=["*/*"]))
    except Exception as error:  # no common root: OSError, ValueError, httpx's own
        raise ModelLoadError(
            f"{str(name)!r} is neither a folder here nor a Hugging Face model that can be fetched; "
            f"name a folder with a checkpoint, or check the hub name and the network ({error})"
        ) from error
    check_weights(folder)
    return folder, folder.name[:12]


def check_weights(folder: Path) -> None:
    """Raises ModelLoadError for a folder without safetensors."""
    if any(folder.glob("*.safetensors")):
        return
    pickled = ", ".join(sorted(path.name for path in folder.glob("*.bin")))
    found = f"only pickled weights ({pickled}), which can run code when they are read" if pickled else "no weights"
    raise ModelLoadError(f"{folder} holds {found}; a checkpoint needs model.safetensors, as save_pretrained writes it")


def digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for path in [*sorted(folder.glob("*.safetensors")), folder / "config.json"]:
        if path.exists():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    sha.update(block)
    return sha.hexdigest()[:12]


def read(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The tokenizer and the model of a folder; raises ModelLoadError where they would score at random."""
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, **options)
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
            )
    # What transformers raises for a checkpoint it cannot read has no common root: OSError, KeyError, SafetensorError, …
    except Exception as error:
        raise ModelLoadError(f"transformers cannot load {folder} as a sequence classifier: {error}") from error
    if missing := sorted(info["missing_keys"]):
        raise ModelLoadError(
            f"{folder} lacks weights of a {type(model).__name__} ({', '.join(missing[:3])}) and would score at random; "
            "fine-tune it first (python -m models.finetune), or name a fine-tuned checkpoint"
        )
    check_tokenizer(folder, tokenizer, model)
    if model.config.pad_token_id is None:  # where it is None, models that read the last token refuse batches
        model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model


def check_tokenizer(folder: Path, tokenizer: Any, model: Any) -> None:
    """Raises ModelLoadError for a tokenizer that transformers made up, that cannot pad, or that is another model's."""
    rows = getattr(model.config, "vocab_size", None) or len(tokenizer)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelLoadError(f"{folder} has no tokenizer; put the model's own there (tokenizer.json and its config)")
    if len(tokenizer) > rows:
        raise ModelLoadError(f"the tokenizer in {folder} has {len(tokenizer)} tokens, the model {rows}: another's?")
    if tokenizer.pad_token_id is None:
        raise ModelLoadError(f"the tokenizer in {folder} has no padding token; set pad_token in tokenizer_config.json")


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and load reports off stderr, and leaves both as they were."""
    chatter: Any = transformers_logging
    verbosity, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if bars:
            chatter.enable_progress_bar()


def position_limit(model: Any, tokenizer: Any) -> int:
    """The most tokens a text may have: what the tokenizer states, bounded by the model's positions.

    RoBERTa and its kin number positions from padding_idx + 1, so a table of 514 with padding_idx 1 holds 512; they are
    known by the padding_idx of the table itself.
    """
    bounds = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            bounds.append(module.num_embeddings - module.padding_idx - 1)
    return int(min(bound for bound in bounds if bound is not None and bound > 0))  # XLNet, which has no bound, says -1
