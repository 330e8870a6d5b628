"""`chatcli models plan`: of a folder, of what is in the cache, and of a model that only the Hub has."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 1024,
          "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 4096, "vocab_size": 1000,
          "max_position_embeddings": 8192, "tie_word_embeddings": False}  # fmt: skip
LAYER = {"self_attn.q_proj": (1024, 1024), "self_attn.k_proj": (256, 1024), "self_attn.v_proj": (256, 1024),
         "self_attn.o_proj": (1024, 1024), "mlp.gate_proj": (4096, 1024), "mlp.up_proj": (4096, 1024),
         "mlp.down_proj": (1024, 4096)}  # fmt: skip
PARAMETERS = 2 * 1000 * 1024 + 2 * sum(math.prod(shape) for shape in LAYER.values())
Plan = Callable[..., subprocess.CompletedProcess[str]]


def shard(names: dict[str, tuple[int, ...]]) -> bytes:
    """The beginning of a safetensors file, whose data nobody may ask for."""
    header, at = {}, 0
    for name, shape in names.items():
        size = math.prod(shape) * 2
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


def files() -> dict[str, bytes]:
    layers = [{f"model.layers.{n}.{name}.weight": shape for name, shape in LAYER.items()} for n in range(2)]
    tables = {"model.embed_tokens.weight": (1000, 1024), "lm_head.weight": (1000, 1024)}
    shards = {
        f"model-0000{n}-of-00002.safetensors": names for n, names in enumerate((layers[0] | tables, layers[1]), 1)
    }
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        **{file: shard(names) for file, names in shards.items()},
    }


@dataclass
class RangesHub:
    """A Hub that answers what a plan asks: what a repository holds, small files, ranges of large ones."""

    models: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"org/model": files()})
    sent: dict[str, int] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    url: str = ""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: RangesHub

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        path = self.path.partition("?")[0].lstrip("/")
        if path.startswith("api/models/"):
            name, _, revision = path.removeprefix("api/models/").partition("/revision/")
            if name == "org/gated":
                self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            elif name not in self.hub.models or revision not in ("main", "v2", COMMIT):
                code = "RevisionNotFound" if name in self.hub.models else "RepoNotFound"
                self._send(404, b"", {"X-Error-Code": code})
            else:
                siblings = [{"rfilename": n, "size": len(c)} for n, c in self.hub.models[name].items()]
                self._send(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode(), {})
            return
        name, _, rest = path.partition("/resolve/")
        file = rest.partition("/")[2]
        content = self.hub.models[name][file]
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        part = content[int(found[1]) : int(found[2]) + 1] if found else content
        if self.command == "GET":
            self.hub.sent[file] = self.hub.sent.get(file, 0) + len(part)
        self._send(206 if found else 200, part, {"ETag": f'"{hash(content):x}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def ranges_hub() -> Iterator[RangesHub]:
    hub = RangesHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    here = tmp_path / "model"
    here.mkdir()
    for name, content in files().items():
        (here / name).write_bytes(content)
    return here


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "chatcli", "models", "plan", *arguments],
            env={**os.environ, "CHATCLI_HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def facts(ran: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_a_folder(plan: Plan, folder: Path) -> None:
    ran = plan(str(folder), "--dtype", "bfloat16")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == f"{folder}: {PARAMETERS / 1e6:.1f} million parameters."
    assert [line.split()[0] for line in lines[2:7]] == ["precision", "float32", "bfloat16", "int8", "int4"]
    assert lines[-1] == "Choice: bfloat16 on cpu. It fits there as it was asked for."


def test_a_tiny_model_is_counted_in_thousands(plan: Plan, tiny_llama: Path) -> None:
    assert re.search(r": [1-9]\d+\.\d thousand parameters\.\n", plan(str(tiny_llama)).stdout)


def test_json_has_every_number(plan: Plan, folder: Path) -> None:
    found = facts(plan(str(folder), "--json", "--context", "2000"))
    assert (found["parameters"], found["context"], found["on_disk"]) == (PARAMETERS, 2000, True)
    full = next(row for row in found["precisions"] if row["precision"] == "bfloat16")
    assert (full["weights_bytes"], full["cache_bytes"]) == (2 * PARAMETERS, 2000 * 2 * 2 * 256 * 2)
    assert full["fits_on"][-1] == "cpu"
    assert found["devices"][-1]["name"] == "cpu"
    assert found["choice"]["precision"] in ("float32", "bfloat16")
    assert found["refusal"] is None


def test_of_what_is_not_here_only_headers_are_fetched(plan: Plan, folder: Path, ranges_hub: RangesHub) -> None:
    ran = plan("org/model", "--json", HF_ENDPOINT=ranges_hub.url, HF_TOKEN="hf_secret", HF_HUB_OFFLINE="")
    assert ran.returncode == 0, ran.stderr
    found, local = facts(ran), facts(plan(str(folder), "--json"))
    assert (found["on_disk"], found["revision"]) == (False, COMMIT)
    assert found["precisions"] == local["precisions"]
    assert ranges_hub.sent.keys() == files().keys() - {"tokenizer.json", "model.safetensors.index.json"}
    assert all(size <= 110_000 for size in ranges_hub.sent.values())
    assert ranges_hub.tokens == {"Bearer hf_secret"}
    assert "not downloaded" in plan("org/model", HF_ENDPOINT=ranges_hub.url, HF_HUB_OFFLINE="").stdout


def test_an_alias_a_revision_and_a_folder_of_the_repository(plan: Plan, tmp_path: Path, ranges_hub: RangesHub) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.toml").write_text('[alias]\nmine = "org/nested"\n')
    ranges_hub.models["org/nested"] = {f"small/{name}": content for name, content in files().items()}
    variables = {"HF_ENDPOINT": ranges_hub.url, "HF_HUB_OFFLINE": ""}
    ran = plan("mine", "--json", "--revision", "v2", "--subfolder", "small", **variables)
    assert ran.returncode == 0, ran.stderr
    assert (facts(ran)["model"], facts(ran)["parameters"]) == ("org/nested", PARAMETERS)
    ran = plan("org/nested/small", "--json", **variables)
    assert facts(ran)["parameters"] == PARAMETERS
    ran = plan("mine", **variables)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "org/nested holds no model" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("org/modle",), 3, "The Hub has no model org/modle"),
        (("org/quants",), 3, "tiny-Q4_0.gguf of org/quants (0.0 MB) is a GGUF file"),
        (("org/quants:Q8_0",), 3, "chatcli pull org/quants:Q8_0"),
        (("org/quants:Q5_0",), 3, "there are Q4_0, Q8_0"),
        (("org/model", "--revision", "v9"), 3, "org/model has no revision v9."),
        (("org/gated",), 3, "org/gated is gated"),
        (("./nowhere",), 3, "There is no folder ./nowhere"),
        (("",), 2, "The model's name is empty"),
        ((str(Path(__file__).parent),), 3, "has no config.json"),
        (("a b",), 3, "a b is neither a folder here nor a name that the Hub could have"),
        (("org/model", "--device", "cuda:7"), 2, "There is no cuda:7 on this machine"),
        (("org/model", "--context", "-1"), 2, "context"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    plan: Plan, ranges_hub: RangesHub, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ranges_hub.models["org/quants"] = {"tiny-Q4_0.gguf": b"GGUF", "tiny-Q8_0.gguf": b"GGUF"}
    ran = plan(*arguments, HF_ENDPOINT=ranges_hub.url, HF_HUB_OFFLINE="")
    assert (ran.returncode, ran.stdout) == (code, "")
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_offline_nobody_is_asked(plan: Plan, ranges_hub: RangesHub) -> None:
    ran = plan("org/model", HF_ENDPOINT=ranges_hub.url, HF_HUB_OFFLINE="1")
    assert (ran.returncode, ran.stdout) == (3, "")
    assert "org/model is not on this machine, and HF_HUB_OFFLINE forbids to ask the Hub for it." in ran.stderr
    assert not ranges_hub.tokens


def test_what_does_not_fit_exits_with_4_below_its_numbers(plan: Plan, folder: Path) -> None:
    ran = plan(str(folder), "--max-memory", "cpu=20MB", "--device", "cpu")
    assert ran.returncode == 4
    assert "fits on" in ran.stdout
    assert "Choice" not in ran.stdout
    assert "but cpu has 20 MB free: raise --max-memory or choose" in ran.stderr
    ran = plan(str(folder), "--max-memory", "cpu=20MB", "--device", "cpu", "--json")
    assert (ran.returncode, facts(ran)["choice"]) == (4, None)
    assert "20 MB free" in facts(ran)["refusal"]


def test_a_gguf_file_by_its_path_its_folder_and_its_name_in_the_cache(plan: Plan, tmp_path: Path, tiny_llama) -> None:
    from cache_files import put
    from gguf_files import write_gguf

    (tmp_path / "quantised").mkdir()
    file = write_gguf(tmp_path / "quantised" / "m-Q8_0.gguf", tiny_llama, "llama", "Q8_0")
    put(tmp_path / "hf" / "hub", "org/chat-GGUF", {file.name: file.read_bytes()})
    told = [facts(plan(str(each), "--json")) for each in (file, file.parent)]
    told.append(facts(plan("org/chat-GGUF:Q8_0", "--json", HF_HOME=str(tmp_path / "hf"))))
    assert len({each["parameters"] for each in told}) == 1
    assert all(each["parameters"] and each["choice"] and each["on_disk"] for each in told)
