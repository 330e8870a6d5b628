"""The routes that know no chat: bare text is gone on with, taken apart into tokens, turned into vectors."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from chatcli.errors import ChatcliError
from chatcli.openai.answers import TextAnswer
from chatcli.openai.errors import ApiError, api_error
from chatcli.openai.fields import Fields
from chatcli.openai.requests import completion_request, embedding_request
from chatcli.openai.vectors import EmbeddingAnswer
from chatcli.server.api.answering import Answering
from chatcli.server.api.body import read
from chatcli.server.api.length import require_fitting
from chatcli.server.api.sending import JsonResponse
from chatcli.server.api.served import Served
from chatcli.server.api.service import service_of

MOST_IDS = 1 << 31
"""More tokens than any vocabulary has, and as many as every tokenizer can be asked for."""


async def completions(request: Request) -> Response:
    """Go on with every prompt."""
    service = service_of(request)
    asked = await read(request, completion_request)
    name, model = service.model(asked.ways.model)
    for prompt in asked.prompts:
        if isinstance(prompt, str):
            require_fitting([len(prompt)], model.facts.context, service.limits.bytes_per_token, "prompt")
    return Answering(
        service,
        name,
        TextAnswer(name, per_prompt=asked.ways.choices, include_usage=asked.ways.include_usage),
        [
            partial(model.complete, prompt, asked.ways.settings_of(choice))
            for prompt in asked.prompts
            for choice in range(asked.ways.choices)
        ],
        stream=asked.ways.stream,
    )


async def embeddings(request: Request) -> Response:
    """A vector for each text."""
    service = service_of(request)
    asked = await read(request, embedding_request)
    name, model = service.model(asked.model)
    for text in asked.texts:
        require_fitting([len(text)], model.facts.context, service.limits.bytes_per_token, "input")
    return Answering(
        service,
        name,
        EmbeddingAnswer(name, asked.encoding, asked.dimensions),
        [partial(model.embed, asked.texts)],
        stream=False,
    )


async def tokenize(request: Request) -> Response:
    """The ids of a text, as vLLM's server tells them."""
    service = service_of(request)
    name, text = await read(request, _text_to_tokenize)
    name, model = service.model(name)
    # What a model could never read is not counted, either: one text of megabytes would hold up everybody's answers.
    require_fitting([len(text)], model.facts.context, service.limits.bytes_per_token, "prompt")
    with _told(name, model, "prompt"):
        ids = await run_in_threadpool(model.tokenize, text)
    return JsonResponse({"tokens": ids, "count": len(ids), "max_model_len": model.facts.context})


async def detokenize(request: Request) -> Response:
    """The text of ids."""
    name, ids = await read(request, _ids_to_detokenize)
    name, model = service_of(request).model(name)
    try:
        with _told(name, model, "tokens"):
            text = await run_in_threadpool(model.detokenize, ids)
    except (OverflowError, ValueError, IndexError) as error:
        raise ApiError(400, "The model has no such tokens.", param="tokens", code="invalid_value") from error
    return JsonResponse({"prompt": text})


@contextmanager
def _told(name: str, model: Served, param: str) -> Generator[None]:
    """Have what the model cannot do be the client's answer, not a defect of ours."""
    try:
        yield
    except ChatcliError as error:
        raise api_error(error, name, model.facts, param) from error


def _text_to_tokenize(body: object) -> tuple[str, str]:
    """The model's name and the text, which vLLM calls prompt and llama.cpp content."""
    fields = Fields(body)
    text = fields.text("prompt")
    text = fields.text("content") if text is None else text
    if text is None:
        fields.required("prompt")
    return fields.text("model") or "", text or ""


def _ids_to_detokenize(body: object) -> tuple[str, list[int]]:
    fields = Fields(body)
    fields.required("tokens")
    ids = fields.get("tokens")
    if not isinstance(ids, list) or not all(type(each) is int and 0 <= each < MOST_IDS for each in ids):
        raise fields.wrong("tokens", "must be a list of token ids")
    return fields.text("model") or "", ids
