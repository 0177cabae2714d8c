"""Fine-tune a three-class sentiment checkpoint on labelled text: `python -m models.finetune --help`.

Data files are JSON Lines (plain or gzip), one `{"text": ..., "label": "negative" | "neutral" | "positive"}` a line. Half of the
encoder's layers can be dropped before the fine-tuning (`--layers 6` of 12 keeps layers spread evenly, the first and the
last among them, as in Sanh et al. 2019, arXiv:1910.01108). What a recogniser writes has neither case nor punctuation, so
each text loses them with probability `--plain`. The result is an ordinary checkpoint: config, tokenizer, safetensors.
"""

import argparse
import gzip
import json
import random
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.batching import plan
from models.sentiment import LABELS

EXAMPLES = """examples:
  python -m models.finetune --base encoder/ --train calls.jsonl --dev held_out.jsonl --out checkpoint/
  python -m models.finetune --base encoder/ --layers 6 --train reviews.jsonl.gz=30000 --train calls.jsonl=9000 \\
      --dev held_out.jsonl --epochs 2 --seed 7 --out checkpoint/"""


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    label: int  # index into models.sentiment.LABELS


def read_examples(path: Path) -> list[Example]:
    """All labelled rows of a JSON Lines file; raises ValueError, naming the line, for a label that is not one of LABELS."""
    with _opened(path) as lines:
        return [_example(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _opened(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _example(path: Path, number: int, line: str) -> Example:
    row = json.loads(line)
    if row.get("label") not in LABELS:
        raise ValueError(f"{path}:{number}: label {row.get('label')!r} is none of {', '.join(LABELS)}")
    return Example(row["text"], LABELS.index(row["label"]))


def sample(rows: list[Example], count: int | None, rng: random.Random) -> list[Example]:
    """`count` rows: without replacement while there are enough, whole copies first where there are not; None takes all."""
    if count is None:
        return list(rows)
    return rows * (count // len(rows)) + rng.sample(rows, count % len(rows))


def plain(text: str) -> str:
    """The text as a speech recogniser writes it: lower case, no punctuation but apostrophes."""
    return " ".join(re.sub(r"[^\w'\s]", " ", text.replace("’", "'")).lower().split()) or text


def macro_f1(gold: Sequence[int], predicted: Sequence[int]) -> float:
    """Unweighted mean of the F1 of the classes that occur in `gold`."""
    scores = []
    for label in sorted(set(gold)):
        hits = sum(g == p == label for g, p in zip(gold, predicted, strict=True))
        scores.append(2 * hits / (gold.count(label) + list(predicted).count(label)))
    return sum(scores) / len(scores)


def spread(keep: int, total: int) -> list[int]:
    """`keep` of `total` layer indices, evenly spread, the first and the last among them."""
    if keep == 1:
        return [total - 1]
    return [round(i * (total - 1) / (keep - 1)) for i in range(keep)]


def load_student(base: Path, layers: int | None) -> Any:
    """The base encoder with a fresh three-class head, `layers` of its layers kept, word embeddings frozen, in fp32."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
        dtype=torch.float32,
    )
    encoder = model.base_model.encoder
    if layers is not None and layers < len(encoder.layer):
        encoder.layer = torch.nn.ModuleList([encoder.layer[i] for i in spread(layers, len(encoder.layer))])
        model.config.num_hidden_layers = layers
    model.base_model.embeddings.word_embeddings.weight.requires_grad_(False)
    return model


class Trainer:
    """One fine-tuning run: `train` then `save`; everything random comes from one seed."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.rng = random.Random(options.seed)  # noqa: S311  (nothing secret)
        self.device = torch.device(options.device)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(options.base)
        self.model = load_student(options.base, options.layers).to(self.device)

    def batches(self, rows: list[Example]) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        """Length-sorted batches in random order: (tokenized [rows, tokens], labels [rows])."""
        texts = [plain(row.text) if self.rng.random() < self.options.plain else row.text for row in rows]
        encoded = self.tokenizer(texts, truncation=True, max_length=self.options.max_length)["input_ids"]
        groups = plan([len(ids) for ids in encoded], self.options.max_length * self.options.batch, self.options.batch)
        self.rng.shuffle(groups)
        for group in groups:
            padded = self.tokenizer.pad({"input_ids": [encoded[i] for i in group]}, return_tensors="pt")
            labels = torch.tensor([rows[i].label for i in group])
            yield {name: tensor.to(self.device) for name, tensor in padded.items()}, labels.to(self.device)

    def train(self, rows: list[Example]) -> None:
        options = self.options
        counts = torch.tensor([sum(row.label == i for row in rows) for i in range(len(LABELS))], dtype=torch.float32)
        loss_of = torch.nn.CrossEntropyLoss(
            weight=(counts.mean() / counts.clamp(min=1)).sqrt().to(self.device), label_smoothing=options.smoothing
        )
        steps = options.epochs * -(-len(rows) // options.batch)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=options.lr, total_steps=steps + options.epochs, pct_start=0.06, anneal_strategy="linear"
        )
        self.model.train()
        step, started, running = 0, time.monotonic(), 0.0
        for _ in range(options.epochs):
            for batch, labels in self.batches(rows):
                with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=not options.fp32):
                    logits = self.model(**batch).logits
                loss = loss_of(logits.float(), labels)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                running += (loss.item() - running) / min(step, 100)
                if step % 50 == 0 or step == steps:
                    rate = step / (time.monotonic() - started)
                    report(
                        f"step {step}/{steps}  loss {running:.3f}  {rate * options.batch:.0f} examples/s  "
                        f"{(steps - step) / rate / 60:.1f} min left"
                    )

    @torch.inference_mode()
    def predict(self, texts: Sequence[str]) -> list[int]:
        """The most probable label's index for each text, in the order given."""
        self.model.eval()
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.options.max_length)["input_ids"]
        labels = [0] * len(texts)
        for group in plan([len(ids) for ids in encoded], 4096):
            padded = self.tokenizer.pad({"input_ids": [encoded[i] for i in group]}, return_tensors="pt").to(self.device)
            for i, label in zip(group, self.model(**padded).logits.argmax(-1).tolist(), strict=True):
                labels[i] = label
        return labels

    def save(self, folder: Path) -> None:
        """Writes config, tokenizer and half-precision safetensors, never pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.to(torch.float16).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(self.options.base / name, folder / name)


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def evaluate(trainer: Trainer, files: Iterable[Path]) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    for path in files:
        rows = read_examples(path)
        gold, predicted = [row.label for row in rows], trainer.predict([row.text for row in rows])
        right = sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(rows)
        figures[path.name] = {"rows": len(rows), "macro_f1": round(macro_f1(gold, predicted), 4), "accuracy": round(right, 4)}
        report(f"{path.name}: {figures[path.name]}")
    return figures


def source(text: str) -> tuple[Path, int | None]:
    path, _, rows = text.partition("=")
    return Path(path), int(rows) if rows else None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.finetune",
        description="Fine-tune a sentiment checkpoint (negative, neutral, positive) on labelled JSON Lines.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--base", type=Path, required=True, help="folder of the encoder to start from")
    add("--train", type=source, action="append", required=True, metavar="FILE[=ROWS]", help="training data; repeatable")
    add("--dev", type=Path, action="append", default=[], metavar="FILE", help="development data for the end; repeatable")
    add("--out", type=Path, required=True, help="folder to write the checkpoint to")
    add("--layers", type=int, help="keep this many of the base's layers (default: all)")
    add("--epochs", type=int, default=1)
    add("--batch", type=int, default=32, help="texts a step (default: %(default)s)")
    add("--lr", type=float, default=1e-4, help="highest learning rate (default: %(default)s)")
    add("--smoothing", type=float, default=0.05, help="label smoothing (default: %(default)s)")
    add("--plain", type=float, default=0.5, help="share of texts stripped of case and punctuation (default: %(default)s)")
    add("--max-length", type=int, default=64, help="tokens kept of a text (default: %(default)s)")
    add("--seed", type=int, default=1)
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add("--fp32", action="store_true", help="no bf16 autocast (needed on processors without bf16)")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    trainer = Trainer(options)
    rows = [row for path, count in options.train for row in sample(read_examples(path), count, trainer.rng)]
    report(f"{len(rows)} training rows, {sum(p.numel() for p in trainer.model.parameters()) / 1e6:.1f} M parameters")
    trainer.train(rows)
    figures = evaluate(trainer, options.dev)
    trainer.save(options.out)
    print(json.dumps({"rows": len(rows), "dev": figures}))


if __name__ == "__main__":
    main()
