"""What computes the forward pass: eager torch with packed rows where that can be or, on the CPU, torch.compile or ONNX Runtime.

The last two take padded batches. Whatever computes is tried out when it is made, which warms it up as well: what it makes of
rows in one batch has to be what eager torch makes of each by itself.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import DeviceError, ModelLoadError
from models.packed import Packed, pack
from models.tokens import Row, Tokens

Batch = Mapping[str, Tensor]
"""Padded rows: input_ids, attention_mask and perhaps token_type_ids, each [rows, tokens]."""

Compute = Callable[[Batch], Tensor]
"""A batch on the CPU -> logits [rows, classes]."""

WAYS_OUT = {
    "compile": "it needs a C++ compiler (g++, or what CXX names) and Python's headers; --runtime eager needs neither",
    "onnx": "--runtime eager takes any model",
}
RUNTIMES = ("eager", *WAYS_OUT)

APART = 0.05  # of a probability: beyond what bf16 rounds, packed rows are computed wrongly

log = logging.getLogger("callpulse.model")


def settled(runtime: str, device: str, precision: str) -> tuple[str, str]:
    """The device and the precision to look for, given those that were asked for. Raises ModelLoadError or DeviceError where the
    runtime has no such name, is not installed, or has not both."""
    if runtime not in RUNTIMES:
        raise ModelLoadError(f"no runtime is called {runtime!r}; there are {', '.join(RUNTIMES)}")
    if runtime == "eager":
        return device, precision
    if device not in ("auto", "cpu"):
        raise DeviceError(f"--runtime {runtime} is of the CPU, not of {device}; --runtime eager computes there")
    if runtime == "onnx":
        if precision not in ("auto", "fp32"):
            raise ModelLoadError(f"--runtime onnx computes in fp32, not in {precision}; --runtime eager and compile do")
        if not all(map(find_spec, ("onnx", "onnxruntime", "onnxscript"))):
            raise ModelLoadError('--runtime onnx needs libraries more: pip install "callpulse[onnx]"')
        precision = "fp32"
    return "cpu", precision


def computing(runtime: str, model: Any, tokens: Tokens) -> Compute | None:
    """What computes in place of the model; None for eager. It takes its time: it compiles or exports. Raises ModelLoadError."""
    if runtime == "eager":
        return None

    typed, limit = "token_type_ids" in tokens.rows(["a"])[0][0], tokens.limit  # then the rows of all texts have them

    def padded(rows: Sequence[Row]) -> Batch:
        if typed:
            rows = [{**row, "token_type_ids": [0] * len(row["input_ids"])} for row in rows]
        batch: Batch = tokens.padded(rows)
        return batch

    try:
        with hushed():
            if runtime == "compile":
                compute = compiled(model)
            else:
                compute = in_onnx(model, padded(made_up(model, (3, 7, min(limit, 24)))))
            apart = difference(model, lambda rows: compute(padded(rows)), limit)
    # Neither says all that it raises for a model or a machine that will not do. The rows were made up: it quotes no text.
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ModelLoadError(
            f"{type(model).__name__} cannot be computed by --runtime {runtime}: {said}; {WAYS_OUT[runtime]}"
        ) from error
    if not apart <= (2 * APART if model.dtype == torch.bfloat16 else 0.001):  # both round in bf16
        raise ModelLoadError(f"--runtime {runtime} would be off by {apart:.3f} of a probability; --runtime eager is right")
    return compute


def compiled(model: Any) -> Compute:
    """The model as torch.compile makes it for any size but 1, of which it would make programs of their own, each in half a
    minute: so a single row is computed twice, and a single token beside one that is masked out."""
    program: Any = torch.compile(model, dynamic=True)

    def compute(batch: Batch) -> Tensor:
        rows, tokens = batch["input_ids"].shape
        if tokens == 1:
            padding = {"input_ids": model.config.pad_token_id}
            batch = {name: nn.functional.pad(x, (0, 1), value=padding.get(name, 0)) for name, x in batch.items()}
        if rows == 1:
            batch = {name: torch.cat([x, x]) for name, x in batch.items()}
        logits: Tensor = program(**batch).logits
        return logits[:rows]

    return compute


def in_onnx(model: Any, example: Batch) -> Compute:
    """The model in ONNX Runtime, on the thread that calls: several may, which is faster than sharing a batch among threads."""
    with tempfile.TemporaryDirectory() as folder:
        opened = session(exported(model, example, Path(folder)), threads=1)
    names = [each.name for each in opened.get_inputs()]

    def compute(batch: Batch) -> Tensor:
        [logits] = opened.run(None, {name: batch[name].numpy() for name in names})
        return torch.from_numpy(logits)

    return compute


def session(path: Path, threads: int) -> Any:
    """ONNX Runtime's session of a file, on the CPU; the file may go afterwards."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Logits(nn.Module):
    """The logits of a model whose inputs are given by their place."""

    def __init__(self, model: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


def exported(model: Any, example: Batch, folder: Path) -> Path:
    """The model as a file of ONNX under `folder`, for any number of rows and any length.

    The example needs rows of different lengths, or the export may take every token for one to look at.
    """
    sizes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    names, path = list(example), folder / "model.onnx"
    torch.onnx.export(
        Logits(model, names).eval(),
        tuple(example.values()),
        path,
        input_names=names,
        output_names=["logits"],
        dynamic_shapes=((sizes,) * len(names),),  # of *inputs, the one argument
        dynamo=True,
        verbose=False,
    )
    return path


def packing(model: Any, limit: int, budget: int) -> Packed | None:
    """The model for packed rows, warm for batches up to the budget; None, after one line in the log, where rows are padded."""
    packed = None
    try:
        packed = pack(model)
        if packed is not None:
            packed.warm_up(tokens=budget, longest=limit)
            apart = difference(model, lambda rows: packed.submit(rows).wait(), limit)
            if not apart <= APART:  # NaN is no less than anything
                raise ArithmeticError(f"its probabilities would be off by {apart:.2f}")
    except torch.cuda.OutOfMemoryError:
        pass  # padded batches need no less; the engine cuts them, and says so
    # What a build of torch lacks shows when it is called, in whatever way. The rows were blank: the message quotes no text.
    except Exception as error:
        said = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning("%s cannot be packed: %s; batches are padded instead", type(model).__name__, said)
        return None
    return packed


@torch.inference_mode()
def difference(model: Any, together: Callable[[Sequence[Row]], Tensor], limit: int) -> float:
    """The largest difference between the probabilities that `together` makes of some made-up rows in one batch, and the model
    of each by itself."""
    rows = made_up(model, (2, 5, min(limit, 40), 9))
    single = [torch.tensor([row["input_ids"]], device=model.device) for row in rows]
    alone = torch.cat([model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for ids in single])
    return float((together(rows).float().softmax(-1) - alone.float().cpu().softmax(-1)).abs().max())


def made_up(model: Any, lengths: Sequence[int]) -> list[Row]:
    return [{"input_ids": [(7 * n + 11) % model.config.vocab_size for n in range(length)]} for length in lengths]


@contextmanager
def hushed() -> Iterator[None]:
    """Without what torch's compiler and exporter warn of: it is theirs to mend, and the result is tried out."""
    chatter = logging.getLogger("torch.onnx")
    level = chatter.level
    chatter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatter.setLevel(level)
