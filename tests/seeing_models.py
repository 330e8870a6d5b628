"""Tiny checkpoints of families that see, with the files and the templates that their kind has on the Hub."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

QWEN = """\
{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}<|im_end|>
{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}\
<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}\
<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAVA = """\
{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}\
{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>
' }}{% endfor %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
{{ content['text'] + ' ' }}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""
GEMMA = """\
{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}\
{{ '<start_of_turn>' + role + '
' }}{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}{% for item in message['content'] %}\
{% if item['type'] == 'image' %}{{ '<start_of_image>' }}{% elif item['type'] == 'text' %}{{ item['text'] | trim }}\
{% endif %}{% endfor %}{% endif %}{{ '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model
' }}{% endif %}"""

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_QWEN_FILE = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, "min_pixels": 64, "max_pixels": 2048}
_QWEN_VISION = {"depth": 1, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_heads": 2}
_SQUARE_FILE = {
    "do_resize": True, "do_normalize": True, "do_rescale": True, "do_convert_rgb": True,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": {"height": 16, "width": 16},
}  # fmt: skip
_TOWER = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip


def _qwen(vision: dict[str, Any], section: dict[str, Any]) -> Callable[[dict[str, int]], Any]:
    def config(ids: dict[str, int]) -> dict[str, Any]:
        return {
            "text_config": {**TEXT, "rope_parameters": {**_ROPE, **section}},
            "vision_config": {**_QWEN_VISION, **vision},
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
        }

    return config


def _llava(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "text_config": {**TEXT, "model_type": "llama"},
        "vision_config": {**_TOWER, "model_type": "clip_vision_model"},
        "image_token_index": ids["<image>"],
        "vision_feature_layer": -1,
    }


def _gemma(ids: dict[str, int]) -> dict[str, Any]:
    return {
        "text_config": {**TEXT, "sliding_window": 1024, "layer_types": ["sliding_attention", "full_attention"]},
        "vision_config": {**_TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
        "mm_tokens_per_image": 4,
        "tie_word_embeddings": False,
        "image_token_index": ids["<image_soft_token>"],
        "boi_token_index": ids["<start_of_image>"],
        "eoi_token_index": ids["<end_of_image>"],
    }


_SECTION = {"mrope_section": [1, 1, 2]}
_25_VISION = {
    "hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 32, "window_size": 16, "fullatt_block_indexes": [0],
}  # fmt: skip
_3_VISION = {
    "hidden_size": 16, "out_hidden_size": 32, "intermediate_size": 32, "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0],
}  # fmt: skip
FAMILIES: dict[str, tuple[str, tuple[str, ...], Any, dict[str, Any], str]] = {
    "qwen2_vl": (
        QWEN, _QWEN_TOKENS, _qwen({"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}, _SECTION),
        {"image_processor_type": "Qwen2VLImageProcessor", **_QWEN_FILE}, "Qwen2VLProcessor",
    ),
    "qwen2_5_vl": (
        QWEN, _QWEN_TOKENS, _qwen(_25_VISION, _SECTION),
        {"image_processor_type": "Qwen2VLImageProcessor", **_QWEN_FILE}, "Qwen2_5_VLProcessor",
    ),
    "qwen3_vl": (
        QWEN, _QWEN_TOKENS, _qwen(_3_VISION, {**_SECTION, "mrope_interleaved": True}),
        {"image_processor_type": "Qwen2VLImageProcessor", **_QWEN_FILE}, "Qwen3VLProcessor",
    ),
    "llava": (
        LLAVA, ("<image>",), _llava,
        {**_SQUARE_FILE, "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 16},
         "do_center_crop": True, "crop_size": {"height": 16, "width": 16}}, "LlavaProcessor",
    ),
    "gemma3": (
        GEMMA, ("<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>", "<end_of_turn>"), _gemma,
        {**_SQUARE_FILE, "image_processor_type": "Gemma3ImageProcessor", "do_pan_and_scan": False}, "Gemma3Processor",
    ),
}  # fmt: skip
"""Template, further special tokens, configuration, preprocessor_config.json, the name of the processor's class."""
_EXTRA = {
    "gemma3": {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
}


def make_seeing(folder: Path, family: str, write_tokenizer: Callable[..., int], *, seed: int = 0) -> Path:
    """A checkpoint of a family, two layers deep, with random weights."""
    import torch
    from tokenizers import AddedToken, Tokenizer
    from transformers import AutoConfig, AutoModelForImageTextToText

    template, tokens, configured, file, _ = FAMILIES[family]
    write_tokenizer(folder, None)
    (folder / "chat_template.jinja").write_text(template)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in tokens])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **_EXTRA.get(family, {})}))
    ids = {text: tokenizer.token_to_id(text) for text in tokens}
    config = configured(ids)
    config["text_config"]["vocab_size"] = tokenizer.get_vocab_size()
    torch.manual_seed(seed)
    settings = AutoConfig.for_model(family, **config, initializer_range=0.3)
    model = AutoModelForImageTextToText.from_config(settings, dtype=torch.float32)
    with torch.no_grad():  # Gemma's begins with zeros, which is to see nothing
        for name, weight in model.named_parameters():
            if name.endswith("mm_input_projection_weight"):
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(file))
    return folder


def processor_of(folder: Path, family: str) -> Any:
    """The family's own processor; without the part for video, which alone would need torchvision."""
    import transformers
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = AutoImageProcessor.from_pretrained(folder)
    template = (folder / "chat_template.jinja").read_text()
    made = getattr(transformers, FAMILIES[family][-1])
    if family == "llava":
        return made(images, tokenizer, 4, "default", template, num_additional_image_tokens=1)
    if family == "gemma3":
        return made(images, tokenizer, template, image_seq_length=4)
    # Its look at the types of its parts needs torchvision, too, and finds nothing wrong with them.
    made = type(made.__name__, (made,), {"check_argument_for_proper_class": lambda self, name, part: None})
    return made(images, tokenizer, chat_template=template)


def picture(width: int, height: int, shift: int = 0, form: str = "PNG") -> bytes:
    """An image file with a pattern of its own."""
    from PIL import Image

    made = Image.new("RGB", (width, height))
    made.putdata(
        [
            ((x * 13 + shift) % 256, (y * 29 + shift) % 256, (x * y + 7 * shift) % 256)
            for y in range(height)
            for x in range(width)
        ]
    )
    file = io.BytesIO()
    made.save(file, form)
    return file.getvalue()
