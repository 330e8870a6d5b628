import subprocess
import sys

HEAVY = {"torch", "transformers", "huggingface_hub", "jinja2", "tokenizers", "prompt_toolkit", "rich", "numpy"}


def test_finding_a_model_on_disk_loads_nothing_heavy(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    code = (
        "import sys\n"
        "from chatcli.adapters import encode, format, prompt, table\n"
        "from chatcli.models import hub, plan, vocabulary, weights\n"
        f"checkpoint = hub.resolve({str(tmp_path)!r})\n"
        "table.shipped().match(checkpoint.name, checkpoint.model_type)\n"
        "vocabulary.special_tokens(checkpoint)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
