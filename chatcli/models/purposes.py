"""What a checkpoint is for, from config.json and the names of its files: to chat, or something else, in a few words.

It knows the class names of transformers as texts. It opens no file and imports no model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

Kind = Literal[
    "causal", "text-to-text", "translator", "masked", "encoder", "embedding", "classifier", "tagger", "reader",
    "scorer", "image classifier", "detector", "segmenter", "depth", "image encoder", "image generator", "captioner",
    "speech recogniser", "speaker", "audio classifier", "video classifier", "time series", "unknown",
]  # fmt: skip

PURPOSES: Mapping[Kind, str] = {
    "translator": "a sequence-to-sequence model (it translates or summarises)",
    "masked": "an encoder (it fills in masked words)",
    "encoder": "an encoder (it turns text into vectors)",
    "embedding": "an embedding model (it turns text into vectors, to search and compare)",
    "classifier": "a classifier (it labels text)",
    "tagger": "a tagger (it labels words, such as names in a text)",
    "reader": "an extractive reader (it marks the answer in a text that it is given)",
    "scorer": "a reranker or a reward model (it scores texts)",
    "image classifier": "an image classifier (it labels pictures)",
    "detector": "an object detector (it finds things in pictures)",
    "segmenter": "a segmentation model (it outlines things in pictures)",
    "depth": "a depth model (it tells distances in pictures)",
    "image encoder": "an image encoder (it turns pictures into vectors, to search and compare)",
    "image generator": "a diffusion model (it makes pictures, video or sound)",
    "captioner": "an image captioner (it describes or reads a picture, and takes no questions in turns)",
    "speech recogniser": "a speech recogniser (it writes down what is said)",
    "speaker": "a text-to-speech model (it reads text aloud)",
    "audio classifier": "an audio classifier (it labels sounds)",
    "video classifier": "a video classifier (it labels film)",
    "time series": "a time series model (it forecasts numbers)",
}
"""What each kind that does not chat is, and what it is for, after "NAME is"."""

T5 = frozenset({"t5", "mt5", "umt5"})
"""Encoder-decoders that take any text for a question; they chat."""
_TRANSLATORS = frozenset(
    {"bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led", "longt5", "m2m_100", "marian", "mbart"}
    | {"mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "seamless_m4t", "seamless_m4t_v2"}
    | {"switch_transformers"}
)
_ENCODERS = frozenset(
    {"albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "longformer", "mpnet"}
    | {"modernbert", "nomic_bert", "roberta", "roformer", "xlm-roberta"}
)
_FAMILIES: Mapping[str, Kind] = {
    **dict.fromkeys(T5, "text-to-text"),
    **dict.fromkeys(_TRANSLATORS, "translator"),
    **dict.fromkeys(("whisper", "speech_to_text", "moonshine", "wav2vec2", "hubert", "wavlm"), "speech recogniser"),
    **dict.fromkeys(("speecht5", "vits", "bark", "fastspeech2_conformer", "parler_tts", "csm", "dia"), "speaker"),
    **dict.fromkeys(("clip", "siglip", "siglip2", "align", "vit", "dinov2", "dinov3_vit"), "image encoder"),
    **dict.fromkeys(("blip", "git", "pix2struct", "trocr", "vision-encoder-decoder"), "captioner"),
    **dict.fromkeys(("sam", "sam2", "sam3", "mask2former", "maskformer", "oneformer"), "segmenter"),
    **dict.fromkeys(("timesfm", "chronos", "autoformer", "informer", "patchtst"), "time series"),
    **dict.fromkeys(("musicgen", "musicgen_melody", "unet_2d", "diffusion"), "image generator"),
    **dict.fromkeys(("colpali", "colqwen2", "colmodernvbert"), "embedding"),
}  # fmt: skip
"""Families of which every model is of one kind, whatever class it names."""

_CLASSES: tuple[tuple[str, Kind], ...] = (
    (r"(CausalLM|LMHeadModel)$", "causal"),
    (r"(Reward\w*|ForScore|Reranker|CrossEncoder)$|Reward", "scorer"),
    (r"(ForSequenceClassification|ForMultipleChoice)$", "classifier"),
    (r"ForTokenClassification$", "tagger"),
    (r"For(TableQuestion|Question)Answering", "reader"),
    (r"For(MaskedLM|PreTraining|NextSentencePrediction)$", "masked"),
    (r"ForTextEncoding$|ForRetrieval$", "embedding"),
    (r"For(Zero\w+)?ObjectDetection$|ForKeypoint", "detector"),
    (r"Segmentation$|ForMaskGeneration$|ForImageMatting$", "segmenter"),
    (r"ForDepthEstimation$|ForNormalEstimation$", "depth"),
    (r"ForVideoClassification$", "video classifier"),
    (r"ForAudio\w*Classification$|ForXVector$", "audio classifier"),
    (r"Image\w*Classification\w*$|ForImage\w*Retrieval$", "image classifier"),
    (r"For(CTC|RNNT|TDT|SpeechToText|SpeechSeq2Seq)$", "speech recogniser"),
    (r"ForTextTo(Speech|Waveform)$", "speaker"),
    (r"ForTimeSeries\w+$|ForPrediction$|ForRegression$", "time series"),
    (r"UNet|Transformer2D|AutoencoderKL|Diffusion\w*(Pipeline|Model)$", "image generator"),
    (r"EncoderModel$", "encoder"),
)
"""Patterns of class names; the first that is found in a name tells."""


def kind(config: Mapping[str, Any], files: Collection[str] = ()) -> Kind:
    """What sort of model this is, from `architectures`, its family and the names of the `files` beside config.json."""
    family = str(config.get("model_type", ""))
    if "modules.json" in files or "config_sentence_transformers.json" in files:  # made by sentence-transformers
        return "scorer" if _scores(config) else "embedding"
    architectures = config.get("architectures")
    for name in architectures if isinstance(architectures, list) else ():
        # Models that also see and hear, and ChatGLM, carry the translators' suffix.
        if str(name).endswith("ForConditionalGeneration"):
            encodes = bool(config.get("is_encoder_decoder"))
            return _FAMILIES.get(family, "translator" if encodes else "causal")
        for pattern, found in _CLASSES:
            if re.search(pattern, str(name)):
                return _sharper(found, family, config)
    return _FAMILIES.get(family, "encoder" if family in _ENCODERS else "unknown")


def _sharper(found: Kind, family: str, config: Mapping[str, Any]) -> Kind:
    """What a classifier labels, which its class does not say."""
    if found != "classifier":
        return found
    if _FAMILIES.get(family) == "speech recogniser":
        return "audio classifier"
    return "scorer" if _scores(config) else found


def _scores(config: Mapping[str, Any]) -> bool:
    """Whether a classifier has one label only, whose value is then a score."""
    labels = config.get("id2label")
    return config.get("num_labels") == 1 or (isinstance(labels, Mapping) and len(labels) == 1)


def makes_vectors(config: Mapping[str, Any], files: Collection[str] = ()) -> bool:
    """Whether this is a model of texts that is there to turn them into vectors, or as good for that as for anything."""
    pictures = _FAMILIES.get(str(config.get("model_type", "")))
    return not pictures and kind(config, files) in ("embedding", "encoder", "masked")


def purpose(config: Mapping[str, Any], files: Collection[str] = ()) -> str:
    """What a model that does not chat is and what it is for, after "NAME is"; empty for one that may chat."""
    return PURPOSES.get(kind(config, files), "")
