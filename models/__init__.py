"""The model: sentiment of texts. It knows nothing of Kafka, and imports torch only when a checkpoint is loaded.

>>> import models
>>> models.load("lexicon").score(["Thank you, that was perfect!"])[0].label
'positive'
"""

from collections.abc import Sequence
from pathlib import Path

from models.engine import Engine
from models.errors import DeviceError, LabelMappingError, ModelError, ModelLoadError, ScoringError
from models.sentiment import LABELS, Label, LexiconScorer, Scorer, Sentiment
from models.staged import Failure

__all__ = [
    "LABELS",
    "DeviceError",
    "Engine",
    "Failure",
    "Label",
    "LabelMappingError",
    "LexiconScorer",
    "ModelError",
    "ModelLoadError",
    "Scorer",
    "ScoringError",
    "Sentiment",
    "load",
]


def load(
    name_or_path: str | Path = "default",
    device: str = "auto",
    *,
    labels: Sequence[str] | None = None,
    budget: int | None = None,
    threads: int | None = None,
    precision: str = "auto",
    runtime: str = "eager",
) -> Scorer:
    """A scorer from a checkpoint: "default" (ships with the package), a local folder, or a Hugging Face model's name.

    Any sequence-classification checkpoint will do whose labels mean negative and positive, with or without neutral, or 1 to
    5 stars; `labels` names the classes in the order of their ids where the checkpoint does not. `device` is "auto" (CUDA
    where there is one), "cpu", "cuda" or "cuda:N". `precision` is "fp32", "bf16", or "auto", which is bf16 on CUDA and
    where the processor has instructions for it, else fp32. `runtime` is "eager" or, on the CPU, "compile" (torch.compile:
    it takes a C++ compiler, and its time) or "onnx" (ONNX Runtime, fp32 only: extra `onnx`); the scorer's `precision` then
    names it, as in "fp32-onnx". `budget` is the most padded tokens in a batch: without it 2,048 on the CPU and 32,768 on
    CUDA; `threads` sets the CPU threads of torch for the whole process. "lexicon" is a fake that counts words and needs no
    torch; the options mean nothing to it, but it has no precision and no runtime to choose.

    Raises ModelLoadError, LabelMappingError or DeviceError.
    """
    if name_or_path == "lexicon":
        if precision != "auto":
            raise ModelLoadError(f"lexicon has no precision to choose, such as {precision}; a checkpoint has")
        if runtime != "eager":
            raise ModelLoadError(f"lexicon has no runtime to choose, such as {runtime}; a checkpoint has")
        return LexiconScorer()
    from models import transformer  # here, so that importing models stays cheap

    return transformer.load(name_or_path, device, labels, budget, threads, precision, runtime)
