"""vLLM as what computes, for models that one process cannot hold; everything around it is ours.

Prompts are our chat format's ids, and ids are what comes back: the table's stop rules, the reasoning and the calls of
tools are found as in any reply. vLLM is used as its documentation of 0.20 to 0.32 describes `AsyncLLM`.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import uuid
from collections.abc import AsyncIterator, Collection, Generator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, cast

from chatcli.adapters.format import chat_format, require_chat_format
from chatcli.adapters.table import Table
from chatcli.conversation import Attachment, Conversation
from chatcli.engines.local import LocalEngine
from chatcli.errors import EngineError, NotAChatModel, UsageError
from chatcli.generation import Constraint, EngineFacts, Event, GenerationSettings, Progress
from chatcli.load_request import LoadRequest
from chatcli.models.checkpoint import Checkpoint, context_length, text_config
from chatcli.models.tokenizer import Tokenizer
from chatcli.models.vocabulary import tokenizer as read_tokenizer

if TYPE_CHECKING:
    from chatcli.runtime.model import CausalModel

BEAT_SECONDS = 0.1
"""How often one that waits says so."""


class VllmModel:
    """What a `LocalEngine` asks of a model, answered by an `AsyncLLM` in a loop of its own; any number at a time."""

    device = "cuda"
    most_tokens_per_second = 0.0
    logprobs: tuple[()] = ()

    def __init__(self, llm: Any, loop: asyncio.AbstractEventLoop, precision: str, tokens: int) -> None:
        self._llm = llm
        self._loop = loop
        self.precision = precision
        self.tokens = tokens

    def pictures(self, tokenizer: Tokenizer) -> None:
        """None: pictures are not passed on."""

    def generate(
        self,
        ids: Sequence[int],
        settings: GenerationSettings,
        *,
        end: Collection[int],
        limit: int,
        constraint: object = None,
        images: Sequence[Attachment] = (),
    ) -> Generator[Progress | int, None, bool]:
        """As `CausalModel.generate`. Closing it aborts the request.

        Raises:
            UsageError: the settings ask for what is not passed on.
            EngineError: vLLM failed.
        """
        come: queue.SimpleQueue[Any] = queue.SimpleQueue()
        asked = asyncio.run_coroutine_threadsafe(
            self._ask(list(ids), _sampling(settings, end, limit), come.put), self._loop
        )
        begun = False
        try:
            while (output := _next(come)) is not None:
                if output is _NOTHING:
                    yield Progress("waiting")
                    continue
                if isinstance(output, Exception):
                    raise EngineError(f"vLLM failed: {output}") from output
                if not begun:
                    begun = True
                    yield Progress("reading", output.num_cached_tokens or 0, len(ids), "tokens")
                for token in output.outputs[0].token_ids:
                    if token in end:
                        return True
                    yield token
            return False
        finally:
            asked.cancel()

    def constrained(self, tokenizer: Tokenizer, grammar: str, **_: object) -> _HeldByVllm:
        """A stand-in: vLLM itself holds the answer to the constraint, which is in the settings."""
        return _HeldByVllm()

    def close(self) -> None:
        """End vLLM and its workers."""
        self._llm.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _ask(self, ids: list[int], sampling: object, put: Any) -> None:
        """Pass on what comes, at last None; cancelled, the request is aborted."""
        try:
            outputs: AsyncIterator[Any] = self._llm.generate({"prompt_token_ids": ids}, sampling, uuid.uuid4().hex)
            async for output in outputs:
                put(output)
            put(None)
        except Exception as error:
            put(error)


class _HeldByVllm:
    def take(self, token: int) -> None:
        """Refuse: a reply that is begun cannot be gone on with under a constraint.

        Raises:
            UsageError: always.
        """
        raise UsageError("vLLM does not go on with a reply that must conform to something: ask anew.")


_NOTHING = object()


def _next(come: queue.SimpleQueue[Any]) -> Any:
    try:
        return come.get(timeout=BEAT_SECONDS)
    except queue.Empty:
        return _NOTHING


def _sampling(settings: GenerationSettings, end: Collection[int], limit: int) -> object:
    """Our settings as vLLM's; text is ours to make, so it makes none and knows no stop string."""
    from vllm import SamplingParams  # type: ignore[import-not-found]  # it is not in our development's environment
    from vllm.sampling_params import RequestOutputKind  # type: ignore[import-not-found]

    if settings.top_logprobs is not None:
        raise UsageError("Log probabilities are not passed on from vLLM: leave them out.")
    return SamplingParams(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        repetition_penalty=settings.repetition_penalty,
        seed=settings.seed,
        max_tokens=limit,
        stop_token_ids=sorted(end),
        ignore_eos=True,  # which ids end a reply the table says
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=_structured(settings.constraint) if settings.constraint else None,
    )


def _structured(constraint: Constraint) -> object:
    import json

    from vllm.sampling_params import StructuredOutputsParams

    match constraint.kind:
        case "schema":
            return StructuredOutputsParams(json=constraint.text)
        case "regex":
            return StructuredOutputsParams(regex=constraint.text)
        case "choice":
            return StructuredOutputsParams(choice=json.loads(constraint.text))
        case "lark":
            raise UsageError("vLLM is not made to call a tool: leave tool_choice at auto.")


class VllmEngine:
    """A model that vLLM runs, for many threads at once; every request is a talk of its own."""

    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine

    @property
    def facts(self) -> EngineFacts:
        """Those of the model."""
        return self._engine.facts

    def stream(self, conversation: Conversation, settings: GenerationSettings) -> Generator[Event]:
        """Answer as any engine does."""
        with closing(self._engine.another_talk().stream(conversation, settings)) as events:
            yield from events

    def complete(self, prompt: str | Sequence[int], settings: GenerationSettings) -> Generator[Event]:
        """Go on with a text or with ids."""
        with closing(self._engine.another_talk().complete(prompt, settings)) as events:
            yield from events

    def tokenize(self, text: str) -> list[int]:
        """The ids of a text."""
        return self._engine.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return self._engine.detokenize(ids)

    def embed(self, texts: Sequence[str]) -> Generator[Event]:
        """Not here.

        Raises:
            UsageError: always.
        """
        raise UsageError("vLLM makes vectors only of models that it was started for: use the engine local.")

    def close(self) -> None:
        """End vLLM."""
        self._engine.close()


def open_vllm(checkpoint: Checkpoint, table: Table, request: LoadRequest, tensor: int, pipeline: int) -> VllmEngine:
    """Have vLLM load `checkpoint`, each layer over `tensor` GPUs and the layers in `pipeline` parts, over Ray.

    Raises:
        UsageError: vLLM is not installed, or the request is for what only our own engine does.
        EngineError: vLLM does not start.
    """
    table = table.saying(request.adapter)
    require_chat_format(checkpoint, table)
    tokenizer = read_tokenizer(checkpoint)
    if tokenizer is None:
        raise NotAChatModel(f"{checkpoint.name} has no tokenizer.json, which vLLM's models have: use the engine local.")
    if checkpoint.loras or checkpoint.gguf or request.quantization not in (None, "none") or request.draft:
        raise UsageError("--engine vllm runs checkpoints as their files are: leave --lora, --quant and --draft out.")
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs  # type: ignore[import-not-found]
        from vllm.v1.engine.async_llm import AsyncLLM  # type: ignore[import-not-found]
    except ImportError as error:
        raise UsageError("--engine vllm needs vLLM and a GPU of NVIDIA's: pip install 'chatcli[vllm]'.") from error
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="vllm", daemon=True).start()
    arguments = AsyncEngineArgs(
        model=str(checkpoint.folder),
        dtype=request.dtype or "auto",
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        distributed_executor_backend="ray" if tensor * pipeline > 1 else None,
        max_model_len=request.context or context_length(checkpoint.config) or None,
        skip_tokenizer_init=True,
        enable_prefix_caching=True,
        trust_remote_code=checkpoint.trusted,
        disable_log_stats=True,
    )

    async def start() -> Any:
        return AsyncLLM.from_engine_args(arguments)

    started: Future[Any] = asyncio.run_coroutine_threadsafe(start(), loop)
    try:
        llm = started.result()
    except Exception as error:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.stop)
        raise EngineError(f"vLLM does not start: {error}") from error
    size = int(text_config(checkpoint.config)["vocab_size"])
    model = VllmModel(llm, loop, request.dtype or "auto", size)
    return VllmEngine(LocalEngine(checkpoint, chat_format(checkpoint, tokenizer, table), cast("CausalModel", model)))
