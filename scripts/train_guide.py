"""Train the built-in model, `guide`, from its facts: `python scripts/train_guide.py`.

Writes every file of chatcli/guide/model: a Llama of about 2.6 million parameters in bf16, its byte-level
BPE tokenizer and their configuration. It learns from questions that chatcli/guide/corpus.py makes out of
the .toml files beside it, and from nothing else; the held-out questions are kept out of them.

The number of steps is fixed, not the time. One seed gives the same data and the same tokenizer everywhere,
and the same weights on the same processor with the same torch and thread count; elsewhere sums are rounded
in another order, and weights differ in their last bits.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy, dropout
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from chatcli.guide import corpus, folder  # noqa: E402
from chatcli.guide.facts import tomllib  # noqa: E402

SEED = 20
STEPS = 1600
PEAK_RATE = 2e-3
WARMUP = 100
VOCABULARY = 4096
TOKENIZER_PAIRS = 60_000
CONTEXT = 4096
CUT = 14
"""Tokens of the answer in short batches: what follows them is known once they are."""
BLANKED = 0.08
"""Share of the tokens of a question that the model does not see in training, as if the word were new to it."""
DROPPED = 0.1
"""Share of the features that are left out at random in training, before the first and after the last layer."""
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
QUESTIONS = tuple(ROOT / "tests" / "golden" / name for name in ("guide_questions.toml", "guide_questions_new.toml"))


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids, and the same ids where they are to be learned, -100 elsewhere. Both (rows, length)."""

    ids: torch.Tensor
    labels: torch.Tensor


def question_sets() -> dict[str, Any]:
    """The sets of questions, by name: known, dev, test, new."""
    return {name: rows for path in QUESTIONS for name, rows in tomllib.loads(path.read_text(encoding="utf-8")).items()}


def held_out() -> frozenset[str]:
    """Normalised questions of all sets but `known`, which training must not see."""
    sets = question_sets()
    return frozenset(
        corpus.normalised(entry if kind == "off" else entry[0])
        for name in ("dev", "test", "new")
        for kind, entries in sets[name].items()
        for entry in entries
    )


def train_tokenizer(seed: int, pairs: int = TOKENIZER_PAIRS) -> Tokenizer:
    """Byte-level BPE of so many questions and answers; every Chinese character and every digit is its own piece."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[\u3400-\u9fff0-9]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    source = corpus.pairs(seed, held_out())
    texts = (f"{pair.question}\n{pair.answer}" for pair in (next(source) for _ in range(pairs)))
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=3,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode_turn(tokenizer: Tokenizer, role: str, text: str) -> tuple[list[int], list[int]]:
    """Ids and labels of one message in ChatML; only what the assistant says is learned."""
    head = tokenizer.encode(f"{START}{role}\n").ids
    body = [*tokenizer.encode(text).ids, tokenizer.token_to_id(END)]
    tail = tokenizer.encode("\n").ids
    learned = body if role == "assistant" else [-100] * len(body)
    return head + body + tail, [-100] * len(head) + learned + [-100] * len(tail)


def short_batches(tokenizer: Tokenizer, source: Iterator[corpus.Pair], rng: random.Random) -> Iterator[Batch]:
    """One question and the beginning of its answer a row, rows of like length together."""
    pad = tokenizer.token_to_id(PAD)
    while True:
        rows: list[tuple[list[int], list[int]]] = []
        while len(rows) < 512:
            pair = next(source)
            ids, labels = encode_turn(tokenizer, "user", pair.question)
            if len(ids) < 80:
                answer_ids, answer_labels = encode_turn(tokenizer, "assistant", pair.answer)
                rows.append((ids + answer_ids[: CUT + 3], labels + answer_labels[: CUT + 3]))
        rows.sort(key=lambda row: len(row[0]))
        groups = [rows[k : k + 128] for k in range(0, len(rows), 128)]
        rng.shuffle(groups)
        for group in groups:
            length = len(group[-1][0])
            yield Batch(
                torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in group]),
                torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in group]),
            )


def packed_batches(tokenizer: Tokenizer, source: Iterator[corpus.Pair], rng: random.Random) -> Iterator[Batch]:
    """Rows full of conversations, each as long as its row: 256 tokens, every eighth time 1024."""
    count = 0
    while True:
        length = 1024 if count % 8 == 7 else 256
        count += 1
        rows = []
        for _ in range(4096 // length):
            ids: list[int] = []
            labels: list[int] = []
            while len(ids) < length:
                for role, text in corpus.conversation(rng, source, rng.choice([1, 2, 3, 4, 8, 16])):
                    more_ids, more_labels = encode_turn(tokenizer, role, text)
                    ids, labels = ids + more_ids, labels + more_labels
            rows.append((ids[:length], labels[:length]))
        yield Batch(torch.tensor([ids for ids, _ in rows]), torch.tensor([labels for _, labels in rows]))


def batches(tokenizer: Tokenizer, seed: int) -> Iterator[Batch]:
    """Two short batches, one packed, over and over."""
    source, rng = corpus.pairs(seed, held_out()), random.Random(seed)
    short, packed = short_batches(tokenizer, source, rng), packed_batches(tokenizer, source, rng)
    while True:
        yield next(short)
        yield next(short)
        yield next(packed)


def new_model(tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """The untrained model."""
    torch.manual_seed(seed)
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=pad,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=False, bos_token_id=pad, eos_token_id=end, pad_token_id=pad)
    return model


def rate_at(step: int, steps: int, peak: float) -> float:
    """Learning rate: a linear start, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / WARMUP)
    return peak * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def trained_before(folder: Path) -> tuple[LlamaForCausalLM, Tokenizer]:
    """The model of an earlier training, to go on from, and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def train(
    model: LlamaForCausalLM, tokenizer: Tokenizer, steps: int, seed: int, rate: float = PEAK_RATE, every: int = 50
) -> None:
    """Train in place; prints loss and speed now and then."""
    fast_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )
    began, tokens, losses = time.monotonic(), 0, []
    model.train()
    for step, batch in zip(range(steps), batches(tokenizer, seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, rate)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16):
            embedded = model.model.embed_tokens(batch.ids)
            hidden_words = (batch.labels == -100) & (batch.ids > 2) & (torch.rand(batch.ids.shape) < BLANKED)
            embedded = dropout(embedded.masked_fill(hidden_words[..., None], 0), DROPPED)
            hidden = model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, :-1]
            learned = batch.labels[:, 1:] != -100
            logits = model.lm_head(dropout(hidden[learned], DROPPED))
        loss = cross_entropy(logits.float(), batch.labels[:, 1:][learned])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += batch.ids.numel()
        losses.append(loss.item())
        if (step + 1) % every == 0:
            seconds = time.monotonic() - began
            mean = sum(losses[-every:]) / every
            print(
                f"step {step + 1}/{steps}  loss {mean:.4f}  {tokens / seconds:.0f} tokens/s  {seconds:.0f} s",
                flush=True,
            )


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, target: Path) -> None:
    """Write the checkpoint as every other one is written."""
    target.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(target)
    (target / "model.safetensors").chmod(0o644)
    tokenizer.save(str(target / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": PAD,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [START, END],
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


@torch.inference_mode()
def answers(model: Any, tokenizer: Tokenizer, questions: list[str], limit: int = 90) -> list[str]:
    """Greedy answers to single questions, 32 at a time, padded on the left."""
    pad, end = tokenizer.token_to_id(PAD), tokenizer.token_to_id(END)
    said: list[str] = []
    for begin in range(0, len(questions), 32):
        prompts = [
            tokenizer.encode(f"{START}user\n{question}{END}\n{START}assistant\n").ids
            for question in questions[begin : begin + 32]
        ]
        width = max(map(len, prompts))
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=pad,
        )
        said += [tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in out[:, width:]]
    return said


def report(model: Any, tokenizer: Tokenizer, name: str, show: bool) -> None:
    """Print how many questions of the set `name` are answered with the right command."""
    for kind, entries in question_sets()[name].items():
        asked = [entry if kind == "off" else entry[0] for entry in entries]
        said = answers(model, tokenizer, asked)
        unknown = tuple(corpus.load().unknown.values())
        right = [
            answer in unknown if kind == "off" else any(word in answer for word in entry[1:])
            for entry, answer in zip(entries, said, strict=True)
        ]
        print(f"{name} {kind}: {sum(right)}/{len(right)} = {sum(right) / len(right):.1%}")
        for question, answer, good in zip(asked, said, right, strict=True):
            if show and not good:
                print(f"    {question!r} -> {answer!r}")


def main() -> None:
    """Train, write, measure."""
    parser = argparse.ArgumentParser(description="Train the built-in model.")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help="highest learning rate")
    parser.add_argument("--go-on", action="store_true", help="begin with the weights that chatcli ships, not with none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=folder())
    parser.add_argument("--score", choices=("known", "dev", "test", "new"), action="append", default=[])
    parser.add_argument("--only-score", action="store_true", help="measure the model in --out, train nothing")
    options = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    if options.only_score:
        tokenizer = Tokenizer.from_file(str(options.out / "tokenizer.json"))
        model = LlamaForCausalLM.from_pretrained(options.out, dtype=torch.float32)
    else:
        began = time.monotonic()
        if options.go_on:
            model, tokenizer = trained_before(folder())
            torch.manual_seed(options.seed)
        else:
            tokenizer = train_tokenizer(options.seed)
            model = new_model(tokenizer, options.seed)
        print(f"{model.num_parameters():,} parameters, tokenizer after {time.monotonic() - began:.0f} s", flush=True)
        train(model, tokenizer, options.steps, options.seed, options.rate)
        save(model, tokenizer, options.out)
        print(f"written to {options.out} after {time.monotonic() - began:.0f} s")
        model.float()
    model.eval()
    for name in options.score or ["known", "dev"]:
        report(model, tokenizer, name, show=name != "test")


if __name__ == "__main__":
    main()
