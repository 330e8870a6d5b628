"""What a checkpoint is for: models that chat pass, of all others one sentence says what they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatcli.errors import NotAChatModel
from chatcli.models.checkpoint import Checkpoint, makes_vectors, open_checkpoint, require_chat_model
from chatcli.models.purposes import PURPOSES, kind
from chatcli.models.refusals import nothing_to_run

CHATS = [
    ("llama", "LlamaForCausalLM", {}, "causal"),
    ("gpt2", "GPT2LMHeadModel", {}, "causal"),
    ("gemma3", "Gemma3ForConditionalGeneration", {"vision_config": {}}, "causal"),
    ("qwen2_vl", "Qwen2VLForConditionalGeneration", {"vision_config": {}}, "causal"),
    ("chatglm", "ChatGLMForConditionalGeneration", {}, "causal"),
    ("chatglm", "ChatGLMModel", {}, "unknown"),
    ("t5", "T5ForConditionalGeneration", {"is_encoder_decoder": True}, "text-to-text"),
    ("mt5", "MT5ForConditionalGeneration", {"is_encoder_decoder": True}, "text-to-text"),
    ("x", "nonsense", {}, "unknown"),
]
OTHERS = [
    ("bart", "BartForConditionalGeneration", {}, "translator"),
    ("mbart", "MBartForConditionalGeneration", {"is_encoder_decoder": True}, "translator"),
    ("marian", "MarianMTModel", {}, "translator"),
    ("m2m_100", "M2M100ForConditionalGeneration", {}, "translator"),
    ("new_one", "NewOneForConditionalGeneration", {"is_encoder_decoder": True}, "translator"),
    ("t5", "T5EncoderModel", {}, "encoder"),
    ("bert", "BertForMaskedLM", {}, "masked"),
    ("bert", "BertModel", {}, "encoder"),
    ("bert", None, {}, "encoder"),
    ("roberta", "RobertaForSequenceClassification", {}, "classifier"),
    ("xlm-roberta", "XLMRobertaForSequenceClassification", {"id2label": {"0": "LABEL_0"}}, "scorer"),
    ("llama", "LlamaForSequenceClassification", {"num_labels": 1}, "scorer"),
    ("qwen2", "Qwen2ForRewardModel", {}, "scorer"),
    ("bert", "BertForTokenClassification", {}, "tagger"),
    ("bert", "BertForQuestionAnswering", {}, "reader"),
    ("vit", "ViTForImageClassification", {}, "image classifier"),
    ("clip", "CLIPModel", {}, "image encoder"),
    ("detr", "DetrForObjectDetection", {}, "detector"),
    ("segformer", "SegformerForSemanticSegmentation", {}, "segmenter"),
    ("sam", "SamModel", {}, "segmenter"),
    ("dpt", "DPTForDepthEstimation", {}, "depth"),
    ("whisper", "WhisperForConditionalGeneration", {}, "speech recogniser"),
    ("wav2vec2", "Wav2Vec2ForCTC", {}, "speech recogniser"),
    ("vits", "VitsModel", {}, "speaker"),
    ("speecht5", "SpeechT5ForTextToSpeech", {}, "speaker"),
    ("wav2vec2", "Wav2Vec2ForSequenceClassification", {}, "audio classifier"),
    ("audio-spectrogram-transformer", "ASTForAudioClassification", {}, "audio classifier"),
    ("videomae", "VideoMAEForVideoClassification", {}, "video classifier"),
    ("blip", "BlipForConditionalGeneration", {}, "captioner"),
    ("patchtst", "PatchTSTForPrediction", {}, "time series"),
]


def checkpoint(model_type: str, architecture: str | None, config: dict[str, Any], folder: Path) -> Checkpoint:
    named = {"architectures": [architecture]} if architecture else {}
    return Checkpoint("owner/model", folder, "", {"model_type": model_type, **named, **config}, {})


@pytest.mark.parametrize(("model_type", "architecture", "config", "expected"), CHATS)
def test_what_may_chat_passes(
    model_type: str, architecture: str, config: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    found = checkpoint(model_type, architecture, config, tmp_path)
    assert kind(found.config) == expected
    require_chat_model(found)


@pytest.mark.parametrize(("model_type", "architecture", "config", "expected"), OTHERS)
def test_of_all_else_a_sentence_says_what_it_is(
    model_type: str, architecture: str | None, config: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    found = checkpoint(model_type, architecture, config, tmp_path)
    assert kind(found.config) == expected
    with pytest.raises(NotAChatModel) as error:
        require_chat_model(found)
    assert str(error.value).startswith(f"owner/model is {PURPOSES[expected]}; it does not chat: try ")  # type: ignore[index]
    served = model_type == "bert" and expected in ("masked", "encoder")
    assert makes_vectors(found) == ("/v1/embeddings" in str(error.value)) == served


def test_an_architecture_list_that_is_none_is_passed_over(tmp_path: Path) -> None:
    assert kind({"model_type": "x", "architectures": "nonsense"}) == "unknown"


def test_an_embedding_model_in_a_chat_models_body(tmp_path: Path) -> None:
    """Qwen3-Embedding says Qwen3ForCausalLM; the file of sentence-transformers beside it tells."""
    found = checkpoint("qwen3", "Qwen3ForCausalLM", {}, tmp_path)
    require_chat_model(found)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(NotAChatModel, match="an embedding model"):
        require_chat_model(found)


def test_a_diffusion_pipeline_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(NotAChatModel, match=r"is a diffusion model \(it makes pictures"):
        open_checkpoint(tmp_path)
    assert "is a diffusion model" in nothing_to_run("owner/sd", ["model_index.json", "unet/config.json"])
