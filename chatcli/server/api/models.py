"""/v1/models: which models are served, and what is known of them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from chatcli.openai.answers import Json
from chatcli.server.api.sending import JsonResponse
from chatcli.server.api.served import Served
from chatcli.server.api.service import service_of


async def list_models(request: Request) -> Response:
    """Every model."""
    service = service_of(request)
    return JsonResponse({"object": "list", "data": [_told(*each) for each in service.models.items()]})


async def one_model(request: Request) -> Response:
    """The model of that name, which may have slashes in it."""
    return JsonResponse(_told(*service_of(request).model(request.path_params["name"])))


def _told(name: str, model: Served) -> Json:
    """The object that the API has for a model; `max_model_len` is the context, `type` what it is for, as others say."""
    facts = model.facts
    told: Json = {"id": name, "object": "model", "created": 0, "owned_by": "chatcli"}
    return told | {"max_model_len": facts.context or None, "type": "llm" if facts.chats else "embeddings"}
