"""One reply on its way from token ids to events: detokenized, cleaned, ended at stop strings, split.

It knows the order of these steps; it knows no model, and asks nobody for the next id.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatcli.adapters.format import ChatFormat, specials
from chatcli.conversation import Message, Tool
from chatcli.generation import Event, FinishReason, GenerationSettings, Reasoning, Text, ToolCalled
from chatcli.streaming.cleanup import Cleanup
from chatcli.streaming.detokenize import Detokenizer
from chatcli.streaming.reasoning import ReasoningSplitter
from chatcli.streaming.sanitize import sanitize
from chatcli.streaming.stops import StopStrings
from chatcli.streaming.tool_calls import ToolSplitter

NOTHING = Message("assistant", "")


class Reply:
    """Events out of ids. `stopped` says that a stop string came; `inside` that the prompt opened the reasoning.

    `began` is a reply to go on with, of which nothing is given out again. `tools` are those that the model may ask
    for; without any no call is looked for.

    Special tokens are not decoded, so a stop string that is one of them has its id in `end`, and one that
    holds some is found with them kept; what is kept and stops nothing is taken out again.
    """

    def __init__(
        self,
        chat: ChatFormat,
        settings: GenerationSettings,
        began: Message = NOTHING,
        *,
        inside: bool,
        tools: Sequence[Tool] = (),
    ) -> None:
        self.stopped = False
        # A constraint ends the answer itself; what it asks for may well hold a family's stop string.
        stops = () if settings.constraint else (*chat.stop, *(settings.stop or ()))
        special = specials(chat.tokenizer)
        self.end = frozenset(special[stop] for stop in stops if stop in special)
        within = {text: i for text, i in special.items() if any(text in stop and text != stop for stop in stops)}
        self._unshown = [text for text, i in within.items() if i not in chat.kept]
        form = chat.tools if tools else None
        framing = {text: i for text, i in special.items() if form and any(text in each for each in form.texts)}
        kept = chat.kept.union(within.values(), framing.values())
        self._detokenizer = Detokenizer(chat.tokenizer, keep=kept)
        self._cleanup = Cleanup(chat.cleanup)
        self._stops = StopStrings(stops)
        self._splitter = ReasoningSplitter(*chat.tags, inside=inside)
        marks = [text for text, i in framing.items() if i not in chat.kept]
        self._tools = ToolSplitter(form, tools, marks) if form else None
        self._unshown = [text for text in self._unshown if text not in framing]
        self._text, self._reasoning = [began.text], [began.reasoning]
        self._calls, self._calls_due = [*began.calls], len(began.calls)
        self._due: dict[type[Event], str] = {Text: began.text, Reasoning: began.reasoning}

    @property
    def shown(self) -> Message:
        """What the reader has got, with what there was before."""
        return Message("assistant", "".join(self._text), "".join(self._reasoning), calls=tuple(self._calls))

    def reason(self, *, ended: bool) -> FinishReason:
        """Why there is no more of it, where the model `ended` it or a limit did."""
        return ("tool_calls" if self._calls else "stop") if ended else "length"

    def show(self, event: Event) -> Event:
        """Count an event as given out."""
        if isinstance(event, Text):
            self._text.append(event.text)
        elif isinstance(event, Reasoning):
            self._reasoning.append(event.text)
        elif isinstance(event, ToolCalled):
            self._calls.append(event.call)
        return event

    def replay(self, ids: Iterable[int]) -> list[Event]:
        """Take in the ids of what was shown before; returns what they hold beyond that, if it fits to it."""
        events = [
            event
            for token in ids
            for event in self._split(self._certain(self._cleanup.push(self._detokenizer.push(token))))
        ]
        return self._new(events, strict=True)

    def push(self, token: int) -> list[Event]:
        """What the token makes certain."""
        return self._new(self._split(self._certain(self._cleanup.push(self._detokenizer.push(token)))))

    def flush(self, *, ended: bool) -> list[Event]:
        """What was held back: at the end of the reply, or at a limit, where half a character stays held."""
        if self.stopped:
            return []
        text = self._detokenizer.flush() if ended else ""
        text = self._certain(self._cleanup.push(text) + self._cleanup.flush())
        return self._new(self._split(text if self.stopped else text + self._plain(self._stops.flush()), last=True))

    def _certain(self, text: str) -> str:
        safe, hit = self._stops.push(sanitize(text))
        self.stopped = hit is not None
        return self._plain(safe)

    def _plain(self, text: str) -> str:
        for special in self._unshown:
            text = text.replace(special, "")
        return text

    def _split(self, text: str, *, last: bool = False) -> list[Event]:
        events: list[Event] = list(self._splitter.push(text))
        if last or self.stopped:
            events += self._splitter.flush()
        return self._called(self._tools, events, last=last or self.stopped) if self._tools else events

    def _called(self, tools: ToolSplitter, events: list[Event], *, last: bool) -> list[Event]:
        """The events with the calls that stand in the answer."""
        made: list[Event] = []
        for event in events:
            made += tools.push(event.text) if isinstance(event, Text) else [event]
        return [*made, *(tools.flush() if last else ())]

    def _new(self, events: list[Event], *, strict: bool = False) -> list[Event]:
        """The events without what was shown before; none at all if they do not fit to that and are to, `strict`."""
        new: list[Event] = []
        for event in events:
            if isinstance(event, ToolCalled):
                if self._calls_due:
                    self._calls_due -= 1
                else:
                    new.append(event)
                continue
            assert isinstance(event, (Text, Reasoning))
            due = self._due[type(event)]
            if due.startswith(event.text):
                self._due[type(event)] = due[len(event.text) :]
                continue
            self._due[type(event)] = ""
            if event.text.startswith(due):
                new.append(type(event)(event.text[len(due) :]))
            elif strict:
                self._due = {Text: "", Reasoning: ""}
                return []
            else:
                new.append(event)
        return new
