import pytest

from chatcli.errors import UsageError
from chatcli.load_request import Lora
from chatcli.models.naming import HubName, hub_name, inside, with_loras, without_loras


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("gpt2", HubName("gpt2")),
        ("org/repo", HubName("org/repo")),
        ("org/repo:Q4_K_M", HubName("org/repo", "", "Q4_K_M")),
        ("org/repo/a/b", HubName("org/repo", "a/b")),
        ("org/repo/a:m-Q8_0.gguf", HubName("org/repo", "a", "m-Q8_0.gguf")),
        ("org/repo:Q4/m.gguf", HubName("org/repo", "", "Q4/m.gguf")),
    ],
)
def test_what_a_name_of_the_hub_says(text: str, parts: HubName) -> None:
    assert hub_name(text) == parts
    assert str(parts) == text


@pytest.mark.parametrize(
    "text", ["", "org/", "/x", "org/repo:", "org/repo/../x", "org//x", "a b", "org/r:../x", "C:\\x"]
)
def test_what_no_repository_is_called(text: str) -> None:
    assert hub_name(text) is None


def test_a_folder_within() -> None:
    assert inside("org/repo", "onnx/") == "org/repo/onnx"
    assert inside("org/repo:Q4_0", "a") == "org/repo/a:Q4_0"
    assert inside("/my/models", "small") == "/my/models/small"
    assert inside("org/repo", "") == "org/repo"


def test_adapters_are_part_of_a_name() -> None:
    loras = (Lora("org/style"), Lora("/my/a=b"), Lora("org/tone", 0.5))
    name = with_loras("org/base", loras)
    assert name == "org/base + org/style + /my/a=b=1 + org/tone=0.5"
    assert without_loras(name) == ("org/base", loras)
    assert with_loras(name, (Lora("org/tone", 0.5),)) == name
    assert without_loras("org/base") == ("org/base", ())
    with pytest.raises(UsageError):
        without_loras("org/base + org/x=much")
