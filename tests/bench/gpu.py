"""What a GPU makes of it: python -m tests.bench.gpu. One table, JSON beside it.

    base      a BERT-base-class classifier (12 layers of width 768) on texts of 20 to 50 tokens, which are turns of models/data
              joined; it is made on the spot, and trained for some seconds so that its labels mean something
    default   the checkpoint that ships with the package, on the turns as they are

Of each: the engine's texts and tokens a second, tokenizing included, cache off, medians of --rounds; its forward pass alone
at the full budget, and its share of the device's rate of bf16 matrix products, which is measured here as well (8192 x 8192 x
8192); transformers.pipeline in batches of 32, bf16; labels and scores against fp32 (padded rows, the same device); and the time
that one text takes by itself. Whoever has no GPU can see that it runs: --device cpu --layers 2 --width 64 --edge 512
--texts 500.
"""

import argparse
import gc
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

import models
from models.engine import Engine
from models.errors import DeviceError
from models.examples import read_examples
from models.layout import stage
from models.packed import masked
from models.report import agree
from models.sentiment import LABELS
from models.tokens import Row
from models.transformer import BUILT_IN, Transformer, find_device, read
from tests.bench.texts import TURNS, turns

BATCH, RATE = 128, 5e-5
EDGE = 8192  # of the square matrices
SHORTEST, LONGEST = 20, 50  # tokens


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def seconds(act: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """The median time of an act on the device, after three that are not counted."""
    for _ in range(3):
        act()
    taken = []
    for _ in range(times):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def matrix_rate(device: torch.device, edge: int = EDGE) -> float:
    """Floating-point operations a second of a product of random bf16 matrices."""
    one, other = (torch.randn(edge, edge, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * edge**3 / seconds(lambda: one @ other, device)


def operations(config: Any, lengths: Sequence[int]) -> int:
    """Floating-point operations of a pass over rows of these lengths: products of the layers and of attention. The last layer's
    are done for the first token of a row alone, but for queries, keys and values."""
    width, inner, layers, tokens = config.hidden_size, config.intermediate_size, config.num_hidden_layers, sum(lengths)
    projected = 2 * tokens * 3 * width * width * layers
    mixed = 4 * sum(length * length for length in lengths) * width * layers
    return projected + mixed + 2 * (tokens * (layers - 1) + len(lengths)) * (width * width + 2 * width * inner)


def joined(tokenizer: Any, shortest: int = SHORTEST, longest: int = LONGEST, times: int = 4) -> list[str]:
    """Turns, one after the other in a mixed order, as distinct texts of so many tokens."""
    said, chance, found = turns(), random.Random(3), list[str]()
    counts = dict(zip(said, (len(ids) for ids in tokenizer(said, add_special_tokens=False)["input_ids"]), strict=True))
    for _ in range(times):
        held: list[str] = []
        wanted = chance.randint(shortest, longest)
        for turn in chance.sample(said, len(said)):
            held = [*held, turn] if 2 + sum(map(counts.__getitem__, held)) + counts[turn] <= longest else []
            if held and 2 + sum(map(counts.__getitem__, held)) >= wanted:
                found.append(" ".join(held))
                held, wanted = [], chance.randint(shortest, longest)
    texts = list(dict.fromkeys(found))
    lengths = map(len, tokenizer(texts)["input_ids"])
    return [text for text, length in zip(texts, lengths, strict=True) if shortest <= length <= longest]


def made(folder: Path, device: torch.device, layers: int, width: int, train_s: float) -> Path:
    """A BERT classifier of our own labels and tokenizer, trained for so long on models/data."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(BUILT_IN)
    names = dict(enumerate(LABELS))
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
    }
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        id2label=names,
        label2id={v: k for k, v in names.items()},
        **sizes,
    )
    torch.manual_seed(1)
    auto: Any = transformers.AutoModelForSequenceClassification
    model, chance = auto.from_config(config).to(device).train(), random.Random(1)
    examples = [
        each for path in sorted(TURNS.glob("*_train.jsonl")) if "calls" not in path.name for each in read_examples(path)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    until, step = time.perf_counter() + train_s, 0
    while time.perf_counter() < until:
        picked = chance.sample(examples, BATCH)
        batch = tokenizer([each.text for each in picked], truncation=True, max_length=64, padding=True, return_tensors="pt").to(
            device
        )
        labels = torch.tensor([each.label for each in picked], device=device)
        step += 1
        optimizer.param_groups[0]["lr"] = RATE * min(1, step / 100)
        with torch.autocast(device.type, torch.bfloat16):
            loss = nn.functional.cross_entropy(model(**batch).logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    tell(f"  trained for {step} steps of {BATCH}")
    model.eval().cpu().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(BUILT_IN / name, folder / name)
    return folder


@dataclass(frozen=True, slots=True)
class Asked:
    device: torch.device
    budget: int | None
    rounds: int
    count: int
    """Texts in a round of the engine's."""
    rate: float


def loaded(folder: Path, asked: Asked, precision: str) -> Transformer:
    scorer = models.load(folder, str(asked.device), budget=asked.budget, precision=precision)
    assert isinstance(scorer, Transformer)
    return scorer


def forward(scorer: Transformer, rows: Sequence[Row], asked: Asked) -> dict[str, float]:
    """The pass alone, launched kernel by kernel, over as many of the rows, again and again, as the budget has room for."""
    assert scorer.packed is not None, "its rows are padded: see the log"
    batch, tokens, at = list[Row](), 0, 0
    while not batch or tokens + scorer.length(rows[at % len(rows)]) <= scorer.budget:
        batch.append(rows[at % len(rows)])
        tokens += scorer.length(batch[-1])
        at += 1
    staged, packed = stage(batch, blocks=scorer.packed.attention is masked), scorer.packed
    moved = staged.unstage(staged.buffer.to(asked.device))
    taken = seconds(lambda: packed.forward(moved), asked.device)
    done = operations(scorer.model.config, list(map(scorer.length, batch)))
    return {
        "forward_tokens_per_s": round(tokens / taken),
        "forward_tflops": round(done / taken / 1e12, 1),
        "forward_of_matrix_rate": round(done / taken / asked.rate, 3),
    }


def engine(scorer: Transformer, texts: Sequence[str], tokens: int, asked: Asked) -> dict[str, float]:
    many = [texts[at % len(texts)] for at in range(asked.count)]
    taken = []
    with Engine(scorer, cache=0) as running:
        running.score(texts)
        gc.freeze()  # as a worker does
        for _ in range(asked.rounds):
            began = time.perf_counter()
            running.score(many)
            taken.append(time.perf_counter() - began)
        alone = []
        for text in texts[:200]:
            began = time.perf_counter()
            running.score([text])
            alone.append(time.perf_counter() - began)
    per_s = len(many) / statistics.median(taken)
    return {
        "engine_per_s": round(per_s),
        "engine_tokens_per_s": round(per_s * tokens / len(texts)),
        "engine_worst_per_s": round(len(many) / max(taken)),
        "alone_ms": round(1000 * statistics.median(alone), 2),
    }


def pipeline_per_s(folder: Path, texts: Sequence[str], asked: Asked) -> float:
    _, model = read(folder, torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    classify: Any = transformers.pipeline(
        "text-classification", model=model, tokenizer=tokenizer, device=asked.device, batch_size=32, top_k=None
    )
    some = list(texts[: asked.count // 20])
    classify(some[:64])
    began = time.perf_counter()
    classify(some)
    return round(len(some) / (time.perf_counter() - began))


def measured(name: str, folder: Path, texts: Sequence[str], asked: Asked) -> dict[str, object]:
    texts = texts[: asked.count]
    tell(f"{name}: {len(texts):,} distinct texts")
    scorer = loaded(folder, asked, "bf16")
    rows, _ = scorer.tokenize(texts)
    tokens = sum(map(scorer.length, rows))
    found: dict[str, object] = {
        "distinct_texts": len(texts),
        "tokens_a_text": round(tokens / len(texts), 2),
        "budget": scorer.budget,
    }
    found |= forward(scorer, rows, asked) | engine(scorer, texts, tokens, asked)
    found["pipeline_batch32_per_s"] = pipeline_per_s(folder, texts, asked)
    agreement = agree("bf16", loaded(folder, asked, "fp32").score(texts), scorer.score(texts))
    found["label_agreement"] = agreement.equal_labels
    found["mean_score_difference"] = round(agreement.mean_score_difference, 5)
    return {f"{name}_{key}": value for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.gpu", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-tokens", type=int, help="(default: the package's for this device)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=100_000, help="in a round (default: %(default)s)")
    parser.add_argument("--train-s", type=float, default=15)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="a multiple of 64")
    parser.add_argument("--edge", type=int, default=EDGE, help="of the matrices")
    parser.add_argument("--json", type=Path, default=Path("bench-gpu.json"))
    options = parser.parse_args()
    try:
        device = find_device(options.device)
    except DeviceError as error:
        sys.exit(f"{error}; --device cpu --layers 2 --width 64 --edge 512 --texts 500 shows that the bench runs")
    rate = matrix_rate(device, options.edge)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    asked = Asked(device, options.batch_tokens, options.rounds, options.texts, rate)
    tell(f"{card}, torch {torch.__version__}: {rate / 1e12:.0f} TFLOP/s in bf16")
    found: dict[str, object] = {"device": card, "torch": torch.__version__, "matrix_tflops": round(rate / 1e12, 1)}
    with tempfile.TemporaryDirectory() as name:
        folder = made(Path(name), device, options.layers, options.width, options.train_s)
        found |= measured("base", folder, joined(transformers.AutoTokenizer.from_pretrained(folder)), asked)
    found |= measured("default", BUILT_IN, turns(), asked)
    options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for key, value in found.items():
        print(f"{key:<32} {value:,}" if isinstance(value, int | float) else f"{key:<32} {value}")


if __name__ == "__main__":
    main()
