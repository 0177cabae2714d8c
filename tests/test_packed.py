import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from checkpoints import AutoClassifier, bert_config, load
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import varlen as kernels
from transformers.activations import GELUActivation

from models import arithmetic, graphs, layout, packed
from models.families import FAMILIES, Projection
from models.layout import BLOCK
from models.tokens import Row
from models.transformer import BUILT_IN

WORDS, PADDING, LONGEST = 19, 1, 300
# Logits differ by tenths from text to text; with wider weights transformers itself is 1e-5 off from a row alone to a batch.
WIDTH = 0.2
SMALL: dict[str, Any] = {"vocab_size": WORDS, "pad_token_id": PADDING, "initializer_range": WIDTH, "num_labels": 3}
SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
ROBERTA = SMALL | SIZES | {"max_position_embeddings": LONGEST + PADDING + 1, "type_vocab_size": 1}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: bert_config(num_labels=3, max_position_embeddings=LONGEST, intermediate_size=48, initializer_range=WIDTH),
    "roberta": lambda: transformers.RobertaConfig(**ROBERTA),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**ROBERTA),
    "camembert": lambda: transformers.CamembertConfig(**ROBERTA),
    "distilbert": lambda: transformers.DistilBertConfig(
        **SMALL, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=LONGEST
    ),
}
families = pytest.mark.parametrize("family", CONFIGS)


@cache
def model(family: str) -> Any:
    torch.manual_seed(1)
    made = AutoClassifier.from_config(CONFIGS[family]()).eval()
    for name, parameter in made.named_parameters():
        if name.endswith("bias"):  # zero in a new model, where a bias that is left out, or taken twice, is not seen
            nn.init.normal_(parameter, std=0.1)
    return made


@cache
def packing(family: str) -> packed.Packed:
    made = packed.pack(model(family))
    assert made is not None
    return made


@torch.inference_mode()
def padded(family: str, rows: Sequence[Row]) -> Tensor:
    """What transformers makes of the same rows: logits [rows, classes]."""
    longest = max(len(row["input_ids"]) for row in rows)
    fills = {"input_ids": PADDING, "token_type_ids": 0, "attention_mask": 0}
    fields = {
        name: torch.tensor([[*row[name], *[fill] * (longest - len(row[name]))] for row in rows])
        for name, fill in fills.items()
        if name in rows[0]
    }
    logits: Tensor = model(family)(**fields).logits
    return logits


def row(ids: Sequence[int], types: Sequence[int] | None = None) -> dict[str, list[int]]:
    typed = {} if types is None else {"token_type_ids": list(types)}
    return {"input_ids": list(ids), "attention_mask": [1] * len(ids), **typed}


def rows_of(*lengths: int) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(7)
    return [row(torch.randint(2, WORDS, (length,), generator=generator).tolist()) for length in lengths]


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


lengths = st.lists(st.integers(1, 40), max_size=30)
tokens = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=20)  # the padding token among them
pairs = st.lists(st.tuples(st.integers(0, WORDS - 1), st.integers(0, 1)), min_size=1, max_size=9)  # a token and its type
texts = st.lists(tokens.map(row), min_size=1, max_size=12)


@given(lengths.filter(bool), st.integers(0, 3), st.integers(0, 9))
def test_a_batch_says_where_rows_begin_and_where_tokens_stand_in_them(lengths: list[int], rows: int, tokens: int) -> None:
    room = layout.Room(len(lengths) + rows, sum(lengths) + tokens, max(lengths))
    staged = layout.stage([row([1] * length) for length in lengths], room=room)
    batch = staged.unstage(staged.buffer)
    assert batch.cu_seqlens.dtype == batch.owners.dtype == batch.positions.dtype == torch.int32
    assert batch.cu_seqlens.tolist()[0] == 0
    assert [end - begin for begin, end in pairwise(batch.cu_seqlens.tolist())] == lengths + [0] * rows
    assert (
        batch.owners.tolist() == [number for number, length in enumerate(lengths) for _ in range(length)] + [room.rows] * tokens
    )
    assert batch.positions.tolist()[: sum(lengths)] == [place for length in lengths for place in range(length)]
    assert 0 <= min(batch.positions.tolist()) <= max(batch.positions.tolist()) < room.longest
    assert batch.input_ids.tolist() == [1] * sum(lengths) + [0] * tokens


@pytest.mark.parametrize("lengths", [[0], [3, 0, 2]])
def test_a_row_without_tokens_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="without tokens"):
        layout.stage([row([1] * length) for length in lengths])


@given(st.lists(tokens, max_size=8), st.booleans())
def test_one_buffer_holds_all_about_a_batch(ids: list[list[int]], typed: bool) -> None:
    rows = [row(each, [token % 2 for token in each]) for each in ids]
    staged = layout.stage(rows, typed=typed)
    batch = staged.unstage(staged.buffer)
    flat = [token for each in ids for token in each]
    assert staged.room == layout.Room(len(ids), sum(map(len, ids)), max(map(len, ids), default=0))
    assert batch.input_ids.tolist() == flat
    assert batch.cu_seqlens.tolist()[-1] == len(flat) == len(batch.positions)
    assert (batch.token_type_ids is not None) == typed
    if batch.token_type_ids is not None:
        assert batch.token_type_ids.tolist() == [token % 2 for token in flat]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=60))
def test_blocks_hold_whole_rows_each_in_its_place(lengths: list[int]) -> None:
    rows = [row([number] * length) for number, length in enumerate(lengths, 1)]
    arranged, places, block = layout.in_blocks(rows)
    assert [arranged[place] for place in places] == rows
    assert block % max(lengths) == 0
    assert block <= max(BLOCK, max(lengths))
    ends = [0, *accumulate(len(each["input_ids"]) for each in arranged)]
    assert ends[-1] % block == 0
    assert set(range(0, ends[-1] + 1, block)) <= set(ends)  # no row lies in two blocks
    fillers = [each["input_ids"] for at, each in enumerate(arranged) if at not in places]
    assert all(len(ids) <= max(lengths) and not any(ids) for ids in fillers)


@given(st.integers(1, BLOCK), st.integers(1, 400))
def test_rows_of_one_length_leave_less_than_a_block_of_padding(length: int, count: int) -> None:
    arranged, _, block = layout.in_blocks([row([1] * length)] * count)
    assert sum(len(each["input_ids"]) for each in arranged) - length * count < block


@given(st.integers(1, 5_000))
def test_numbers_are_rounded_up_by_an_eighth_at_most(count: int) -> None:
    assert count <= layout.rounded(count) < count * 1.125 or (count <= 16 and layout.rounded(count) == count)
    assert layout.rounded(layout.rounded(count)) == layout.rounded(count)


def test_few_sizes_of_products_come_of_many_batches() -> None:
    made, asked = packing("bert"), set[int]()

    def product(x: Tensor, by: Projection) -> Tensor:
        asked.add(len(x))
        return made.arithmetic.product(x, by)

    noting = replace(made, arithmetic=replace(made.arithmetic, product=product))
    for count in range(1, 200):
        noting.submit(rows_of(*[1 + (7 * n) % 13 for n in range(count)])).wait()
    assert len(asked) < 60
    assert asked == set(map(layout.rounded, asked))


@families
@given(rows=texts)
@settings(max_examples=40)
def test_packed_rows_score_as_padded_ones(family: str, rows: list[Row]) -> None:
    close(packing(family).submit(rows).wait(), padded(family, rows))


@families
def test_a_row_scores_alone_as_in_any_batch(family: str) -> None:
    rows = rows_of(5, 1, 90, 1, BLOCK - 1, BLOCK, BLOCK + 1, LONGEST, 2, *[9] * 40)
    together = packing(family).submit(rows).wait()
    assert together.shape == (len(rows), 3)
    assert together.std(0).min() > 0.05  # rows do differ
    close(torch.cat([packing(family).submit([each]).wait() for each in rows]), together)
    close(packing(family).submit(rows[::-1]).wait().flip(0), together)
    close(padded(family, rows), together)


@given(st.lists(pairs, min_size=1, max_size=5))
@settings(max_examples=40)
def test_token_types_count_where_rows_have_them(texts: list[list[tuple[int, int]]]) -> None:
    rows = [row(*map(list, zip(*each, strict=True))) for each in texts]
    close(packing("bert").submit(rows).wait(), padded("bert", rows))


def test_distilbert_which_has_no_token_types_passes_over_them() -> None:
    rows = [row([4, 5, 6], [0, 1, 1]), row([7], [0])]
    bare = [row(each["input_ids"]) for each in rows]
    close(packing("distilbert").submit(rows).wait(), padded("distilbert", bare))


def test_the_checkpoint_that_ships_scores_packed_as_padded() -> None:
    scorer = load(BUILT_IN)
    long = "nobody came and i waited all day " * 30
    rows, _ = scorer.tokenize(["환불이 아직도 안 들어왔어요", "ok", "", "thank you so much", long])
    batch = scorer.tokens.padded(rows)
    made = packed.pack(scorer.model)
    assert made is not None
    with torch.inference_mode():
        close(made.submit(rows).wait(), scorer.model(**batch).logits)


def test_nothing_to_score_is_no_error() -> None:
    assert packing("bert").submit([]).wait().shape == (0, 3)


def test_warming_up_goes_through_batches_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    stage = packed.stage
    monkeypatch.setattr(
        packed, "stage", lambda rows, **how: seen.append([len(r["input_ids"]) for r in rows]) or stage(rows, **how)
    )
    packing("bert").warm_up(tokens=96, longest=48)
    assert seen == [[1] * 96, [32] * 3, [48] * 2]


@families
def test_the_kernel_for_variable_lengths_is_asked_for_what_masked_blocks_compute(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_hand(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, of_keys: Tensor, *most: int) -> Tensor:
        assert bounds.dtype == torch.int32
        assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1  # the kernel's condition
        assert bounds is of_keys
        spans = [slice(*span) for span in pairwise(bounds.tolist())]
        assert most == (max(span.stop - span.start for span in spans),) * 2
        scores = [torch.einsum("qhd,khd->hqk", query[span], key[span]) * query.shape[-1] ** -0.5 for span in spans]
        mixed = [torch.einsum("hqk,khd->qhd", each.softmax(-1), value[span]) for each, span in zip(scores, spans, strict=True)]
        return torch.cat(mixed)

    monkeypatch.setattr(kernels, "varlen_attn", by_hand)
    made = replace(packing(family), attention=packed.varlen)
    rows = rows_of(3, 1, 14, 8)
    close(made.submit(rows).wait(), padded(family, rows))


def by_row(batch: layout.Batch) -> packed.Attend:
    """Attention as the kernel for variable lengths has it: nothing of rows without tokens, anything of tokens in no row."""
    spans = [slice(*span) for span in pairwise(batch.cu_seqlens.tolist())]

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = torch.full_like(query, float("nan"))
        for span in spans:
            scores = torch.einsum("qhd,khd->hqk", query[span], key[span]) * query.shape[-1] ** -0.5
            mixed[span] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value[span])
        return mixed

    return attend


@families
@pytest.mark.parametrize("room", [(4, 26, 14), (4, 40, 20), (9, 26, 14), (50, 64, 32)])
def test_room_that_is_left_changes_no_rows_logits(family: str, room: tuple[int, int, int]) -> None:
    rows = rows_of(3, 1, 14, 8)
    staged = layout.stage(rows, room=layout.Room(*room))
    with torch.inference_mode():
        logits = replace(packing(family), attention=by_row).forward(staged.unstage(staged.buffer))
    assert len(logits) == room[0]
    close(logits[:4], padded(family, rows))


@given(st.integers(1, 5000), st.integers(1, 600), st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_there_is_a_graph_for_what_has_few_rows_and_the_smallest_comes_first(
    tokens: int, longest: int, lengths: list[int]
) -> None:
    rooms, needed = list(graphs.rooms(tokens, longest)), layout.needed([row([1] * length) for length in lengths])
    assert rooms == sorted(rooms, key=lambda room: (room.tokens, room.rows))
    assert rooms[-1].tokens == tokens
    if needed.tokens <= tokens and needed.longest <= longest and needed.rows <= max(1, needed.tokens // graphs.ROWS[-1]):
        found = next(room for room in rooms if room.holds(needed))
        assert found.tokens <= max(graphs.LEAST, 1.25 * needed.tokens)


def test_the_epilogues_gelu_is_as_near_as_it_says() -> None:
    x, by = torch.linspace(-6, 6, 481)[:, None], Projection(torch.ones(1, 1), torch.zeros(1))
    made = arithmetic.epilogue().activated(x, by, GELUActivation())
    assert (made - nn.functional.gelu(x)).abs().max() <= 0.0005
    assert arithmetic.epilogue().activated(x, by, nn.ReLU()).equal(x.relu())


@families
@pytest.mark.parametrize("attention", [packed.varlen, packed.masked])
def test_a_forward_pass_never_looks_at_what_a_tensor_holds(family: str, attention: Any) -> None:
    """On the device "meta" tensors hold nothing, so whatever would make the host wait for a GPU fails here."""
    hollow = AutoClassifier.from_config(CONFIGS[family]()).eval().to("meta", torch.bfloat16)
    made = packed.Packed(FAMILIES[type(hollow).__name__](hollow), hollow.device, attention, arithmetic.plain())
    staged = layout.stage(rows_of(16, 16, 16), blocks=attention is packed.masked)  # a filler fills the second block
    logits = made.forward(staged.unstage(staged.buffer.to("meta")))
    assert (len(logits), logits.dtype, logits.device.type) == (staged.room.rows, torch.bfloat16, "meta")


def electra() -> Any:
    return AutoClassifier.from_config(transformers.ElectraConfig(**SMALL, **SIZES, embedding_size=32)).eval()


def decoder() -> Any:
    return AutoClassifier.from_config(bert_config(is_decoder=True)).eval()


def relative() -> Any:
    return AutoClassifier.from_config(bert_config(position_embedding_type="relative_key")).eval()


def training() -> Any:
    return AutoClassifier.from_config(bert_config()).train()


def quantised() -> Any:
    class Quantised(nn.Linear):
        pass

    made = AutoClassifier.from_config(bert_config()).eval()
    made.bert.encoder.layer[1].attention.self.key = Quantised(32, 32)
    return made


def adapted() -> Any:
    made = quantised()
    made.bert.encoder.layer[1].attention.self.key = nn.Linear(32, 32)
    made.bert.encoder.layer[0].output.dense = type(quantised().bert.encoder.layer[1].attention.self.key)(32, 32)
    return made


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (electra, "ElectraForSequenceClassification is none of BertForSequenceClassification, "),
        (decoder, "its attention is causal (is_decoder)"),
        (relative, "its positions are not absolute but relative_key"),
        (training, "it is in training mode"),
        (adapted, "a layer projects with Quantised, not Linear"),
        (quantised, "a layer projects with Quantised, not Linear"),
    ],
)
def test_what_cannot_be_packed_is_padded_and_the_log_says_why_once(
    make: Callable[[], Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "callpulse.packed"):
        assert packed.pack(make()) is None
    (message,) = caplog.messages
    assert f"ForSequenceClassification cannot be packed: {reason}" in message
    assert message.endswith("; batches are padded instead")


@pytest.mark.parametrize(
    ("dtype", "capability", "hidden", "there", "reason"),
    [
        (torch.bfloat16, (9, 0), 768, True, None),
        (torch.float16, (8, 0), 384, True, None),
        (torch.float32, (9, 0), 768, True, "takes bf16 or fp16, not torch.float32"),
        (torch.bfloat16, (7, 5), 768, True, "needs compute capability 8.0, which Card lacks"),
        (torch.bfloat16, (9, 0), 12 * 20, True, "heads of 20"),
        (torch.bfloat16, (9, 0), 12 * 264, True, "heads of 264"),
        (torch.bfloat16, (9, 0), 768, False, "has no variable-length attention"),
    ],
)
def test_on_cuda_it_takes_the_kernel_for_variable_lengths(
    dtype: torch.dtype,
    capability: tuple[int, int],
    hidden: int,
    there: bool,
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Card")
    monkeypatch.setattr(packed, "find_spec", lambda _name: there or None)
    monkeypatch.setattr(packed, "unsupported_family", lambda _model: None)
    config = SimpleNamespace(hidden_size=hidden, num_attention_heads=12)
    said = packed.unsupported(SimpleNamespace(config=config, dtype=dtype, device=torch.device("cuda:0")))
    assert said is None if reason is None else reason in str(said)
