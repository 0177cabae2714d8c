"""What a user would pick instead: each a contender on the same checkpoint. Imports are inside: which are there, shows."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.batching import plan
from tests.bench.contender import Setup
from tests.bench.jobs import Job

Rows = list[list[float]]


def in_order(names: Sequence[str], answers: Sequence[Sequence[dict[str, Any]]]) -> Rows:
    """Scores by label, in any order, as rows of the checkpoint's classes."""
    found = [{answer["label"]: float(answer["score"]) for answer in row} for row in answers]
    return [[row[name] for name in names] for row in found]


class Peer:
    """One whose timed run is its scoring."""

    calibrated = False

    def score(self, texts: Sequence[str]) -> Rows:
        raise NotImplementedError

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        self.score(texts)
        return {}


class pipeline(Peer):  # noqa: N801 (kinds are named by what they are)
    """transformers.pipeline in fp32: called for each text, as most tutorials do, or with a batch size."""

    def __init__(self, job: Job, setup: Setup) -> None:
        import torch
        import transformers

        torch.set_num_threads(setup.threads)
        # fp32 is said: the weights lie as fp16, in which processors are slower
        self.pipe: Any = transformers.pipeline("text-classification", model=setup.model, device="cpu", dtype=torch.float32)
        self.options = {"top_k": None, "truncation": True}
        self.batch, names = job.batch, self.pipe.model.config.id2label
        self.names = [names[index] for index in sorted(names)]

    def score(self, texts: Sequence[str]) -> Rows:
        if self.batch == 1:
            return in_order(self.names, [self.pipe(text, **self.options) for text in texts])
        return in_order(self.names, self.pipe(list(texts), batch_size=self.batch, **self.options))


class infinity(Peer):  # noqa: N801
    """infinity-emb's engine, given all texts at once; no cache."""

    def __init__(self, job: Job, setup: Setup) -> None:
        import torch
        from infinity_emb import AsyncEmbeddingEngine, EngineArgs

        torch.set_num_threads(setup.threads)
        dtype = {"fp32": "float32", "bf16": "bfloat16"}[job.precision]
        self.loop = asyncio.new_event_loop()
        self.engine = AsyncEmbeddingEngine.from_args(
            EngineArgs(
                model_name_or_path=setup.model,
                engine="torch",
                device="cpu",
                dtype=dtype,
                bettertransformer=False,  # of optimum 1, which torch's own attention has replaced
                model_warmup=False,  # ours is longer
            )
        )
        self.loop.run_until_complete(self.engine.astart())
        self.names = class_names(setup.model)

    def score(self, texts: Sequence[str]) -> Rows:
        answers, _ = self.loop.run_until_complete(self.engine.classify(sentences=list(texts)))
        return in_order(self.names, answers)


def class_names(model: str) -> list[str]:
    from transformers import AutoConfig

    names = AutoConfig.from_pretrained(model).id2label
    return [names[index] for index in sorted(names)]


class Loop(Peer):
    """A plain loop: tokenize all, sort by length, batches under the engine's token budget, softmax."""

    def __init__(self, setup: Setup) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(setup.model)
        self.budget = setup.budget

    def logits(self, batch: Any) -> Any:
        """Padded input_ids and attention_mask, as torch tensors -> logits."""
        raise NotImplementedError

    def score(self, texts: Sequence[str]) -> Rows:
        import torch

        with torch.inference_mode():
            ids = self.tokenizer(list(texts), truncation=True)["input_ids"]
            rows: Rows = [[]] * len(texts)
            for indices in plan([len(row) for row in ids], self.budget):
                batch = self.tokenizer.pad({"input_ids": [ids[index] for index in indices]}, return_tensors="pt")
                for index, row in zip(indices, self.logits(batch).float().softmax(-1).tolist(), strict=True):
                    rows[index] = row
        return rows


class compiled(Loop):  # noqa: N801
    """torch.compile of the model, for any shape."""

    def __init__(self, job: Job, setup: Setup) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        super().__init__(setup)
        torch.set_num_threads(setup.threads)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[job.precision]
        model = AutoModelForSequenceClassification.from_pretrained(setup.model, dtype=dtype).eval()
        self.model: Any = torch.compile(model, dynamic=True)

    def logits(self, batch: Any) -> Any:
        return self.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits


class onnx(Loop):  # noqa: N801
    """The checkpoint exported by torch.onnx; int8: dynamic quantization of the weights, a scale a channel."""

    def __init__(self, job: Job, setup: Setup) -> None:
        from models.runtimes import session

        super().__init__(setup)
        with tempfile.TemporaryDirectory() as folder:
            path = self.exported(setup.model, Path(folder), job.precision == "int8")
            self.session: Any = session(path, setup.threads)

    def exported(self, model: str, folder: Path, int8: bool) -> Path:
        import torch
        from transformers import AutoModelForSequenceClassification

        from models.runtimes import exported, made_up

        loaded: Any = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
        example = self.tokenizer.pad(made_up(loaded, (3, 7, 24)), return_tensors="pt")
        path = exported(loaded.eval(), {name: example[name] for name in ("input_ids", "attention_mask")}, folder)
        if not int8:
            return path
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(path, folder / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)
        return folder / "int8.onnx"

    def logits(self, batch: Any) -> Any:
        import torch

        [logits] = self.session.run(None, {name: batch[name].numpy() for name in ("input_ids", "attention_mask")})
        return torch.from_numpy(logits)
