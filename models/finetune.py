"""Fine-tune a three-class sentiment checkpoint on labelled text: `python -m models.finetune --help`.

Data files are JSON Lines (plain or gzip), one `{"text": ..., "label": "negative" | "neutral" | "positive"}` a line; `FILE=ROWS`
weighs a file by how many rows of it are drawn. Texts are made to look as a recogniser writes them (`models.augment`), anew in
each epoch. A rare label weighs more in the loss, by the root of its rarity. Layers can be dropped before the fine-tuning
(`--layers 6` of 12 keeps layers spread evenly, the first and the last among them, as in Sanh et al. 2019, arXiv:1910.01108).
With `--teacher` the student learns from the probabilities of a larger checkpoint as well (Hinton et al. 2015,
arXiv:1503.02531), and from text without labels (`--unlabelled`). The step with the best mean macro-F1 on the development sets
is what is kept. The result is an ordinary checkpoint: config, tokenizer, safetensors.
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models import transformer
from models.augment import Asr, transcribed
from models.batching import plan
from models.errors import ModelLoadError
from models.examples import Example, read_examples, sample
from models.labels import map_labels
from models.measures import macro_f1
from models.overlap import letters
from models.sentiment import LABELS

BASE, DATA = "CALLPULSE_BASE", "CALLPULSE_DATA"
EXAMPLES = f"""FILE may lie in the folder that {DATA} names; a number of rows after = draws so many, with repeats if need be.

examples:
  python -m models.finetune --base encoder/ --train calls.jsonl --dev held_out.jsonl --out checkpoint/
  python -m models.finetune --base encoder/ --layers 6 --train reviews.jsonl.gz=30000 --train calls.jsonl=9000 \\
      --dev held_out.jsonl --epochs 2 --seed 7 --out checkpoint/
  python -m models.finetune --base teacher/ --layers 6 --teacher teacher/ --train calls.jsonl --unlabelled spoken.txt.jsonl \\
      --dev held_out.jsonl --log run.jsonl --out student/"""
FILES = ("tokenizer.json", "tokenizer_config.json")
NEUTRAL = LABELS.index("neutral")
REPORT_EVERY = 50
DEV_TOKENS = 4096
NO_LABEL = -100  # what torch's cross-entropy passes over


def spread(keep: int, total: int) -> list[int]:
    """`keep` of `total` layer indices, evenly spread, the first and the last among them."""
    if keep == 1:
        return [total - 1]
    return [round(i * (total - 1) / (keep - 1)) for i in range(keep)]


def load_student(base: Path, layers: int | None) -> Any:
    """The base encoder with a three-class head (a fresh one where the base has none), `layers` of its layers kept, word
    embeddings frozen, in fp32."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
        dtype=torch.float32,
    )
    encoder = model.base_model.encoder
    if hasattr(model.config, "callpulse"):
        del model.config.callpulse  # the base's calibration is not ours
    if layers is not None and layers < len(encoder.layer):
        encoder.layer = torch.nn.ModuleList([encoder.layer[i] for i in spread(layers, len(encoder.layer))])
        model.config.num_hidden_layers = layers
    model.base_model.embeddings.word_embeddings.weight.requires_grad_(False)
    return model


@dataclass
class RunLog:
    """Progress on standard error and, where a file is given, one JSON object an event."""

    path: Path | None
    started: float = field(default_factory=time.monotonic)

    def __call__(self, line: str, **event: Any) -> None:
        print(line, file=sys.stderr, flush=True)
        if self.path is not None and event:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"seconds": round(time.monotonic() - self.started, 1), **event}) + "\n")


@dataclass
class Best:
    """The step that was best on the development sets so far, and how many looks ago that was."""

    score: float = -1.0
    weights: Mapping[str, torch.Tensor] | None = None
    since: int = 0

    def take(self, score: float, model: Any) -> None:
        self.since += 1
        if score > self.score:
            self.score, self.since = score, 0
            self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class Trainer:
    """One fine-tuning run: `train` then `save`; everything random comes from one seed."""

    def __init__(self, options: argparse.Namespace, dev: Mapping[str, Sequence[Example]], log: RunLog) -> None:
        torch.manual_seed(options.seed)
        self.options, self.dev, self.log = options, dev, log
        self.rng = random.Random(options.seed)  # noqa: S311  (nothing secret)
        self.asr = Asr(options.plain, options.fillers, options.errors)
        self.device = torch.device(options.device)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(options.base)
        self.model = load_student(options.base, options.layers).to(self.device)
        self.teacher: Any = self._teacher(options.teacher).to(self.device).eval() if options.teacher else None
        self.best = Best()

    def _teacher(self, folder: Path) -> Any:
        """Raises ModelLoadError for a checkpoint that could only teach nonsense: no head, other labels, another vocabulary."""
        tokenizer, teacher = transformer.read(folder, torch.float32)
        seen = [str(teacher.config.id2label.get(i)) for i in range(teacher.config.num_labels)]
        if map_labels(seen) != LABELS:
            raise ModelLoadError(f"the teacher in {folder} has its labels in another order: {', '.join(seen)}")
        if tokenizer.get_vocab() != self.tokenizer.get_vocab():
            raise ModelLoadError(f"the teacher in {folder} has another vocabulary than {self.options.base}")
        return teacher

    def batches(self, rows: Sequence[Example]) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        """Length-sorted batches in random order: (tokenized [rows, tokens], labels [rows], NO_LABEL where there is none)."""
        texts = [transcribed(row.text, self.asr, self.rng) for row in rows]
        encoded = self.tokenizer(texts, truncation=True, max_length=self.options.max_length)["input_ids"]
        groups = plan([len(ids) for ids in encoded], self.options.max_length * self.options.batch, self.options.batch)
        self.rng.shuffle(groups)
        for group in groups:
            padded = self.tokenizer.pad({"input_ids": [encoded[i] for i in group]}, return_tensors="pt")
            found = [rows[i].label for i in group]
            labels = torch.tensor([NO_LABEL if label is None else label for label in found])
            yield {name: tensor.to(self.device) for name, tensor in padded.items()}, labels.to(self.device)

    def train(self, rows: Sequence[Example]) -> None:
        """Runs all epochs, or fewer when `--patience` looks at the development sets brought nothing better; ends with the
        best step's weights where there are development sets."""
        options = self.options
        self.hard_loss = torch.nn.CrossEntropyLoss(weight=balance(rows).to(self.device), label_smoothing=options.smoothing)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.01, fused=True)
        total = options.epochs * -(-len(rows) // options.batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=options.lr, total_steps=total + options.epochs, pct_start=0.06, anneal_strategy="linear"
        )
        started, running = time.monotonic(), 0.0
        for step, (batch, labels) in enumerate((pair for _ in range(options.epochs) for pair in self.batches(rows)), 1):
            self.model.train()
            loss = self.loss(batch, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            running += (loss.item() - running) / min(step, 100)
            if step % REPORT_EVERY == 0 or step == total:
                rate = step / (time.monotonic() - started)
                said = f"step {step}/{total}  loss {running:.3f}  {rate * options.batch:.0f} examples/s"
                left = f"{(total - step) / rate / 60:.1f} min left"
                self.log(f"{said}  {left}", step=step, loss=round(running, 4), lr=schedule.get_last_lr()[0])
            if (step % options.look_every == 0 or step == total) and self._no_better(step):
                break
        if self.best.weights is not None:
            self.model.load_state_dict(self.best.weights)

    def loss(self, batch: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the labels; with a teacher, mixed with the divergence from its probabilities, both softened by a
        temperature T and scaled by T squared, so that the gradients keep their size (Hinton et al. 2015, section 2)."""
        with self._autocast():
            logits = self.model(**batch).logits.float()  # [rows, labels]
        hard: torch.Tensor = self.hard_loss(logits, labels) if (labels != NO_LABEL).any() else logits.sum() * 0
        if self.teacher is None:
            return hard
        with torch.no_grad(), self._autocast():
            target = self.teacher(**batch).logits.float()
        t = self.options.temperature
        soft = torch.nn.functional.kl_div(
            (logits / t).log_softmax(-1), (target / t).log_softmax(-1), log_target=True, reduction="batchmean"
        )
        mixed: torch.Tensor = (1 - self.options.soft) * hard + self.options.soft * t * t * soft
        return mixed

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=not self.options.fp32)

    def _no_better(self, step: int) -> bool:
        """Looks at the development sets; whether it is time to stop."""
        if not self.dev:
            return False
        figures = self.evaluate()
        mean = sum(figure["macro_f1"] for figure in figures.values()) / len(figures)
        self.best.take(mean, self.model)
        single = "  ".join(f"{Path(name).name.split('.')[0]} {figure['macro_f1']:.3f}" for name, figure in figures.items())
        self.log(f"step {step}  development mean {mean:.4f}  {single}", step=step, mean=round(mean, 4), dev=figures)
        return bool(self.options.patience) and self.best.since >= self.options.patience

    def evaluate(self) -> dict[str, dict[str, float]]:
        figures: dict[str, dict[str, float]] = {}
        for name, rows in self.dev.items():
            gold = [row.label for row in rows if row.label is not None]
            among = sorted(set(gold)) if len(set(gold)) == 2 else range(len(LABELS))
            predicted = self.predict([row.text for row in rows], among)
            right = sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(rows)
            scored = round(macro_f1(gold, predicted), 4)
            figures[name] = {"rows": len(rows), "macro_f1": scored, "accuracy": round(right, 4)}
        return figures

    @torch.inference_mode()
    def predict(self, texts: Sequence[str], among: Sequence[int] = range(len(LABELS))) -> list[int]:
        """The index of the most probable of the labels `among` which to choose, for each text in the order given."""
        self.model.eval()
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.options.max_length)["input_ids"]
        labels = [0] * len(texts)
        for group in plan([len(ids) for ids in encoded], DEV_TOKENS):
            padded = self.tokenizer.pad({"input_ids": [encoded[i] for i in group]}, return_tensors="pt").to(self.device)
            with self._autocast():
                found = self.model(**padded).logits[:, list(among)].argmax(-1).tolist()
            for i, label in zip(group, found, strict=True):
                labels[i] = among[label]
        return labels

    def save(self, folder: Path) -> None:
        """Writes config, tokenizer and half-precision safetensors, never pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.to(torch.float16).save_pretrained(folder)
        for name in FILES:
            shutil.copyfile(self.options.base / name, folder / name)


def balance(rows: Iterable[Example]) -> torch.Tensor:
    """A weight for each label: the root of how much rarer than the mean it is; none for one that does not occur."""
    found = [row.label for row in rows]
    counts = torch.tensor([found.count(label) for label in range(len(LABELS))], dtype=torch.float32)
    return torch.where(counts > 0, (counts.mean() / counts.clamp(min=1)).sqrt(), torch.zeros(()))


def unseen(rows: Sequence[Example], dev: Iterable[Path], log: RunLog) -> list[Example]:
    """The rows without those whose text is anywhere in the development files too: what is tested must not have been learnt."""
    tested = {letters(row.text) for path in dev for row in read_examples(path)} - {""}
    kept = [row for row in rows if letters(row.text) not in tested]
    if len(kept) < len(rows):
        log(f"{len(rows) - len(kept)} training rows left out: they are in the development data", left_out=len(rows) - len(kept))
    return kept


def source(text: str) -> tuple[Path, int | None]:
    path, _, rows = text.partition("=")
    return found(path), int(rows) if rows else None


def found(name: str) -> Path:
    """A file as it is named, or in the folder that CALLPULSE_DATA names."""
    inside = Path(os.environ.get(DATA, ".")) / name
    return inside if not Path(name).exists() and inside.exists() else Path(name)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.finetune",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    base = os.environ.get(BASE)
    data = parser.add_argument_group("data and base").add_argument
    data("--base", type=Path, default=base, required=not base, help=f"folder to start from (default: the variable {BASE})")
    data(
        "--train",
        type=source,
        action="append",
        required=True,
        metavar="FILE[=ROWS]",
        help="training data, less what is in the development data too; repeatable",
    )
    data("--unlabelled", type=source, action="append", default=[], metavar="FILE[=ROWS]", help="text for the teacher to label")
    data("--dev", type=source, action="append", default=[], metavar="FILE[=ROWS]", help="development data; repeatable")
    data("--binary", type=source, action="append", default=[], metavar="FILE[=ROWS]", help="the same, without its neutral rows")
    data("--out", type=Path, required=True, help="folder to write the checkpoint to")
    data("--log", type=Path, help="JSON Lines file that gets an object an event")
    text = parser.add_argument_group("a recogniser's hand, as shares of texts").add_argument
    text("--plain", type=float, default=0.5, help="no case, no punctuation, numbers as words (default: %(default)s)")
    text("--fillers", type=float, default=0.15, help="of those, with a filler put in (default: %(default)s)")
    text("--errors", type=float, default=0.1, help="of those, with words lost, doubled or misheard (default: %(default)s)")
    text("--max-length", type=int, default=64, help="tokens kept of a text (default: %(default)s)")
    add = parser.add_argument_group("training").add_argument
    add("--layers", type=int, help="keep this many of the base's layers (default: all)")
    add("--teacher", type=Path, help="checkpoint with the same tokenizer to learn from")
    add("--soft", type=float, default=0.7, help="weight of the teacher against the labels (default: %(default)s)")
    add("--temperature", type=float, default=2.0, help="softens both for the comparison (default: %(default)s)")
    add("--epochs", type=int, default=1, help="times that the rows are gone through (default: %(default)s)")
    add("--batch", type=int, default=32, help="texts a step (default: %(default)s)")
    add("--lr", type=float, default=1e-4, help="highest learning rate (default: %(default)s)")
    add("--smoothing", type=float, default=0.05, help="label smoothing (default: %(default)s)")
    add("--look-every", type=int, default=1000, help="steps between looks at the development data (default: %(default)s)")
    add("--patience", type=int, default=0, help="stop after so many looks without a better one (default: never)")
    add("--seed", type=int, default=1, help="of all that is drawn by lot (default: %(default)s)")
    add("--device", default="cpu", help="torch device (default: %(default)s)")
    add("--fp32", action="store_true", help="no bf16 autocast (needed on processors without bf16)")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.unlabelled and not options.teacher:
        parser().error("--unlabelled needs a --teacher to label it")
    if absent := [name for name in FILES if not (options.base / name).exists()]:
        parser().error(f"{options.base} lacks {', '.join(absent)}")
    rng, log = random.Random(options.seed), RunLog(options.log)  # noqa: S311  (nothing secret)
    rows = [row for path, count in options.train for row in sample(read_examples(path), count, rng)]
    rows += [
        Example(row.text, None)
        for path, count in options.unlabelled
        for row in sample(read_examples(path, labelled=False), count, rng)
    ]
    rows = unseen(rows, [path for path, _ in options.dev + options.binary], log)
    dev = {str(path): sample(read_examples(path), count, rng) for path, count in options.dev}
    dev |= {str(path): sample([r for r in read_examples(path) if r.label != NEUTRAL], n, rng) for path, n in options.binary}
    trainer = Trainer(options, dev, log)
    size = sum(p.numel() for p in trainer.model.parameters()) / 1e6
    log(f"{len(rows)} training rows, {size:.1f} M parameters", rows=len(rows), options=vars(options) | _paths(options))
    trainer.train(rows)
    figures = trainer.evaluate()
    trainer.save(options.out)
    print(json.dumps({"rows": len(rows), "dev": figures}))


def _paths(options: argparse.Namespace) -> dict[str, Any]:
    """The options that are no plain values, as words."""
    return {name: str(value) for name, value in vars(options).items() if isinstance(value, Path | list)}


if __name__ == "__main__":
    main()
