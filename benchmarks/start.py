"""How long a start takes: the light commands against `import typer`, `run` to its prompt, `ask` against a plain script.

python benchmarks/start.py [--rounds 7] [--only light|prompt|cold|warm]

Light commands are timed as whole processes, `run` from its start until its prompt is on a terminal, `ask` and the
script until the first token of the answer is on standard output. The script is what transformers' documentation shows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pexpect

TYPER = [sys.executable, "-c", "import typer"]
CHATCLI = [str(Path(sys.executable).with_name("chatcli"))]
LIGHT: Mapping[str, tuple[list[str], float]] = {
    "`chatcli --version`": ([*CHATCLI, "--version"], 1.5),
    "`chatcli --help`": ([*CHATCLI, "--help"], 2),
    "`chatcli ask --help`": ([*CHATCLI, "ask", "--help"], 3),
    "`chatcli history`": ([*CHATCLI, "history"], 3),
    "`chatcli models show guide`": ([*CHATCLI, "models", "show", "guide"], 3),
    "`chatcli adapters`": ([*CHATCLI, "adapters"], 3),
    "`chatcli completion bash`": ([*CHATCLI, "completion", "bash"], 3),
}
"""What is called, and how many times `import typer` it may take."""

PLAIN = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer

class FirstToken(BaseStreamer):
    def __init__(self):
        self.calls = 0

    def put(self, ids):
        self.calls += 1
        if self.calls == 2:  # the first call is the prompt
            print(tokenizer.decode(ids), flush=True)

    def end(self):
        pass

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hello"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
model.generate(**prompt, max_new_tokens=8, do_sample=False, streamer=FirstToken())
"""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_checkpoint(folder: Path) -> None:
    """A Llama of 15 million parameters with random weights, whose every answer begins with something to see."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["Hello there, how are you today?"], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=288,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=6,
            vocab_size=32000,
            tie_word_embeddings=True,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    letters = [tokenizer.token_to_id(each) for each in "abcdefghijklmnopqrstuvwxyz"]
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[letters] *= 50  # an answer is made of letters: what is likeliest is among the longest rows
    model.to(torch.bfloat16).save_pretrained(folder)


def whole(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds from the start of a command to its end."""
    begun = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def first_byte(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds from the start of a command to the first byte that it writes."""
    begun = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        seen = os.read(process.stdout.fileno(), 1)
        took = time.perf_counter() - begun
        process.stdout.read()
        if not seen:
            raise SystemExit(process.stderr.read().decode())
    return took


def prompt_shown(command: list[str], environment: Mapping[str, str]) -> float:
    """Seconds from the start of a chat to its prompt on a terminal."""
    begun = time.perf_counter()
    child = pexpect.spawn(command[0], command[1:], env=dict(environment), dimensions=(24, 80), timeout=60)
    child.delaybeforesend = None
    try:
        while True:
            if child.expect([r"\x1b\[6n", r"\x1b\[0;1m>"]) == 1:
                return time.perf_counter() - begun
            child.send("\x1b[1;1R")  # where the cursor is, when the program asks
    finally:
        child.close(force=True)


def in_turn(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The median seconds of each side, measured in turn after a round that does not count."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            took = side()
            if turn:
                measured[name].append(took)
    return {name: statistics.median(each) for name, each in measured.items()}


def light(rounds: int, environment: Mapping[str, str]) -> None:
    """The light commands, as multiples of `import typer`."""
    sides = {"`import typer`": lambda: whole(TYPER, environment)}
    for name, (command, _) in LIGHT.items():
        sides[name] = lambda command=command: whole(command, environment)  # type: ignore[misc]
    took = in_turn(rounds, sides)
    base = took["`import typer`"]
    print("| process | ms | times `import typer` | target |\n|---|---|---|---|")
    for name, seconds in took.items():
        target = f"at most {LIGHT[name][1]:g}" if name in LIGHT else ""
        print(f"| {name} | {seconds * 1000:.0f} | {seconds / base:.2f} | {target} |")


def prompt(rounds: int, environment: Mapping[str, str]) -> None:
    """`run` to its prompt, with the model loading behind it."""
    took = in_turn(rounds, {"`chatcli run`": lambda: prompt_shown([*CHATCLI, "run"], environment)})
    print("| to the prompt | s | target |\n|---|---|---|")
    print(f"| `chatcli run` | {took['`chatcli run`']:.2f} | below 0.5 |")


def cold(rounds: int, environment: Mapping[str, str]) -> None:
    """`ask` and the plain script to the first token, on the same checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(folder))
        script = Path(folder) / "plain.py"
        script.write_text(PLAIN)
        ask = [*CHATCLI, "ask", "--model", folder, "--temperature", "0", "--max-tokens", "8", "Hello"]
        sides = {
            "plain script": lambda: first_byte([sys.executable, str(script), folder], environment),
            "`chatcli ask`, no server": lambda: first_byte(ask, environment),
        }
        took = in_turn(rounds, sides)
    base = took["plain script"]
    print("| to the first token | s | ratio | target |\n|---|---|---|---|")
    for name, seconds in took.items():
        print(f"| {name} | {seconds:.2f} | {seconds / base:.2f} | {'at most 0.6' if 'ask' in name else ''} |")


def warm(rounds: int, environment: Mapping[str, str]) -> None:
    """`ask` to the first token where its model is in memory, less what the model itself takes."""
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(folder))
        ask = [*CHATCLI, "ask", "--model", folder, "--temperature", "0", "--max-tokens", "8", "Hello"]
        kept = {**environment, "CHATCLI_KEEP_ALIVE": "5m"}
        own = float(json.loads(subprocess.check_output([*ask, "--json"], env=kept))["times"]["seconds_to_first_token"])
        own = min(
            own,
            float(json.loads(subprocess.check_output([*ask, "--json"], env=kept))["times"]["seconds_to_first_token"]),
        )
        try:
            took = in_turn(
                rounds,
                {
                    "`import typer`": lambda: whole(TYPER, environment),
                    "`chatcli ask`, model in memory": lambda: first_byte(ask, kept),
                },
            )
        finally:
            subprocess.run([*CHATCLI, "stop"], env=kept, check=True)
    first = took["`chatcli ask`, model in memory"]
    print("| to the first token | s | of that the model | the rest | target |\n|---|---|---|---|---|")
    print(f"| `chatcli ask`, model in memory | {first:.3f} | {own:.3f} | {first - own:.3f} | at most 0.25 |")
    print(f"| `import typer` | {took['`import typer`']:.3f} | | | |")


QUESTIONS: Mapping[str, Callable[[int, Mapping[str, str]], None]] = {
    "light": light,
    "prompt": prompt,
    "cold": cold,
    "warm": warm,
}


def main() -> None:
    """Ask every question, or one, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(QUESTIONS))
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "CHATCLI_HOME": home, "CHATCLI_KEEP_ALIVE": "0"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
        for name, ask in QUESTIONS.items():
            if said.only in (None, name):
                ask(said.rounds, environment)
                print()


if __name__ == "__main__":
    main()
