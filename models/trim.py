"""Trim a checkpoint's vocabulary to what its texts use: `python -m models.trim --help`.

Word embeddings are most of a small multilingual model. The pieces that occur least in the texts given go, with their rows of
the embedding; special tokens and single characters stay, so that everything can still be written. What is segmented without a
piece that went is segmented as before: a unigram model (Kudo 2018, arXiv:1804.10959) takes the most probable segmentation,
and that is still there.
"""

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from models.examples import read_examples

EMBEDDINGS = "word_embeddings.weight"


def usage(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[int]:
    """How often each piece occurs, by id."""
    counts: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch(list(texts)):
        counts.update(encoding.ids)
    return counts


def kept(spec: dict[str, Any], counts: Counter[int], drop: int) -> list[int]:
    """The ids that stay, in their order. Raises ValueError for another kind of tokenizer, or when so many cannot go."""
    if spec["model"]["type"] != "Unigram":
        raise ValueError(f"only Unigram vocabularies can be trimmed, this is {spec['model']['type']}")
    special = {token["id"] for token in spec["added_tokens"]}
    pieces = [piece for piece, _ in spec["model"]["vocab"]]
    loose = [i for i, piece in enumerate(pieces) if i not in special and len(piece.lstrip("▁")) > 1]
    if not 0 <= drop <= len(loose):
        raise ValueError(f"{drop} of {len(pieces)} pieces cannot go: {len(loose)} are neither special nor single characters")
    gone = set(sorted(loose, key=lambda i: (counts[i], -i))[:drop])  # of equally rare ones the last, which are the rarest
    return [i for i in range(len(pieces)) if i not in gone]


def trimmed(spec: dict[str, Any], keep: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
    """The tokenizer's description with these pieces only, and which rows of the embedding it needs: added tokens that
    lie behind the vocabulary stay behind it."""
    behind = sorted(token["id"] for token in spec["added_tokens"] if token["id"] >= len(spec["model"]["vocab"]))
    rows = [*keep, *behind]
    new = {old: i for i, old in enumerate(rows)}
    model = spec["model"] | {"vocab": [spec["model"]["vocab"][i] for i in keep], "unk_id": new[spec["model"]["unk_id"]]}
    added = [token | {"id": new[token["id"]]} for token in spec["added_tokens"]]
    processor = json.loads(json.dumps(spec["post_processor"]))
    for token in (processor or {}).get("special_tokens", {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    return spec | {"model": model, "added_tokens": added, "post_processor": processor}, rows


def trim(folder: Path, out: Path, texts: Sequence[str], drop: int) -> int:
    """Writes the trimmed checkpoint; returns how many rows its embedding has. Raises ValueError, see `kept`."""
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    counts = usage(Tokenizer.from_file(str(folder / "tokenizer.json")), texts)
    spec, rows = trimmed(spec, kept(spec, counts, drop))
    weights = load_file(folder / "model.safetensors")
    [name] = [name for name in weights if name.endswith(EMBEDDINGS)]
    weights[name] = weights[name][torch.tensor(rows)].contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
    shutil.copyfile(folder / "tokenizer_config.json", out / "tokenizer_config.json")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")) | {"vocab_size": len(rows)}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return len(rows)


def agreement(folder: Path, out: Path, texts: Sequence[str]) -> float:
    """The share of texts that are cut into the same pieces."""
    before, after = (Tokenizer.from_file(str(path / "tokenizer.json")) for path in (folder, out))
    pairs = zip(before.encode_batch(list(texts)), after.encode_batch(list(texts)), strict=True)
    return sum(a.tokens == b.tokens for a, b in pairs) / max(1, len(texts))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.trim",
        description="Drop the pieces of a checkpoint's vocabulary that its texts use least, and their embeddings.",
        epilog="example:\n  python -m models.trim encoder/ --out smaller/ --drop 1000 --text calls.jsonl --text more.jsonl.gz",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the trimmed checkpoint to")
    parser.add_argument("--drop", type=int, required=True, help="how many pieces go")
    parser.add_argument("--text", type=Path, action="append", required=True, metavar="FILE", help="JSON Lines; repeatable")
    asked = parser.parse_args(arguments)
    try:
        texts = [example.text for path in asked.text for example in read_examples(path, labelled=False)]
        rows = trim(asked.checkpoint, asked.out, texts, asked.drop)
    except (OSError, ValueError) as error:
        sys.exit(f"{parser.prog}: {error}")
    same = agreement(asked.checkpoint, asked.out, texts)
    print(json.dumps({"pieces": rows, "texts": len(texts), "tokenized_the_same": round(same, 5)}))


if __name__ == "__main__":
    main()
