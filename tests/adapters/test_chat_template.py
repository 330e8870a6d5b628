import itertools

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from chatcli.adapters import template as template_module
from chatcli.adapters.prompt import build
from chatcli.adapters.table import shipped
from chatcli.adapters.template import TemplateRefusal, render
from chatcli.conversation import Conversation, Message
from chatcli.errors import BrokenCheckpoint

ROWS = {row.name: row for row in shipped().rows}

TALK = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "  What is <b>1 & 2</b>? \n"},
    # Both names of the reasoning, as the newest transformers gives them to templates; older releases only pass them on.
    {"thinking": "1 + 2", "role": "assistant", "content": "\n3, of course. 🐼\n", "reasoning_content": "1 + 2"},
    {"role": "user", "content": "谢谢！"},
]

TEMPLATES = {
    "loopcontrols": (
        "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{{ m.content }}|{% endfor %}"
    ),
    "tojson": (
        "{{ messages | tojson }} {{ messages[0] | tojson(indent=2) }}"
        " {{ {'b': 1, 'a': '北<&>'} | tojson(sort_keys=true) }}"
    ),
    "generation": (
        "{% for m in messages %}{{ m.role }}:{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}"
    ),
    "trimmed blocks": (
        "  {% for m in messages %}\n  {% if true %}\n{{ m.content.strip() }}\n    {% endif %}\n{% endfor %}\n end"
    ),
    "tokens": "{{ bos_token }}{% for m in messages %}{{ m['role'] }}{{ eos_token }}{% endfor %}{{ pad_token }}",
    "undefined": (
        "{% if tools %}T{% endif %}{% if documents is not none %}D{% endif %}{{ nothing }}{{ messages[0].nothing }}"
    ),
    "namespace": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index %}{% endfor %}"
        "{{ ns.n }}{{ dict(a=1) }}"
    ),
    "date": "{{ strftime_now('%Y-%m') }}",
    "qwen-like thoughts": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.reasoning_content is string %}"
        "{{ '<think>\\n' + m.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}{% endif %}"
        "{{ m.content.lstrip('\\n') + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
        "{% if enable_thinking is defined and enable_thinking is false %}"
        "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
    ),
    **{f"row {name}": row.template_text for name, row in ROWS.items() if row.template},
}


@pytest.fixture(scope="module")
def transformers_tokenizer():
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(Tokenizer.from_buffer(b'{"version":"1.0","truncation":null,"padding":null,'
        b'"added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,'
        b'"model":{"type":"WordLevel","vocab":{"<unk>":0},"unk_token":"<unk>"}}').to_str()),
        bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
    )  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATES)
def test_renders_as_transformers_does(name: str, transformers_tokenizer) -> None:
    messages = [Message(m["role"], m["content"], m.get("reasoning_content", "")) for m in TALK]
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    for generation, variables in itertools.product((True, False), ({}, {"enable_thinking": False})):
        options = {"add_generation_prompt": generation, **variables}
        expected = transformers_tokenizer.apply_chat_template(
            TALK, chat_template=TEMPLATES[name], tokenize=False, **options
        )
        prompt = build(
            TEMPLATES[name], Conversation(tuple(messages)), control={"<s>", "</s>", "<|im_end|>"}, **tokens, **options
        )
        assert prompt.cuts == ()
        assert prompt.text == expected


def test_a_templates_own_refusal_reaches_the_person() -> None:
    with pytest.raises(TemplateRefusal, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", [])


@pytest.mark.parametrize(
    "broken",
    [
        "{% for m in messages %}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content.nothing.more }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% set ns = namespace(__class__=1) %}",
        "{{ messages.append(1) }}",
        "{{ 'a' * 1000000000 }}",
        "{{ 10 ** 100000000 }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
def test_a_broken_or_hostile_template_is_one_sentence(broken: str) -> None:
    with pytest.raises(BrokenCheckpoint) as error:
        render(broken, [{"role": "user", "content": "x"}])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "hostile",
    [
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{{ 'x'.ljust(10000000000) }}",
        "{{ '%10000000000d' % 1 }}",
        "{{ '%*d' % (10000000000, 1) }}",
        "{{ '{:>10000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, 10000000000) }}",
        "{{ '{a:>10000000000}'.format_map({'a': 1}) }}",
        "{{ 'x' | center(10000000000) }}",
        "{{ 'x' | indent(width=10000000000, first=true) }}",
        "{{ '%10000000000d' | format(1) }}",
        "{{ messages | tojson(indent=10000000000) }}",
        "{{ ('a' * 4000000).replace('a', 'b' * 4000000) }}",
        "{{ ('a' * 4000000) | replace('a', 'b' * 4000000) }}",
        "{{ ('a' * 4000000).join(['b'] * 4000000) }}",
        "{{ range(90000) | map('string') | join('a' * 4000000) }}",
        "{{ range(9) | batch(10000000000, 'x') | list }}",
    ],
)
def test_a_template_cannot_fill_the_memory_in_one_call(hostile: str) -> None:
    with pytest.raises(BrokenCheckpoint, match=r"(long|wide) is not made"):
        render(hostile, [{"role": "user", "content": "x"}])


def test_what_is_bounded_is_else_what_jinja_makes_of_it() -> None:
    template = (
        "{{ '**%s** {x} %% %-5d|' % ('q', 3) }}{{ 'a1a'.replace('a', 'b', 1) }}{{ '%s-%05d' | format('q', 3) }}"
        "{{ 'aa' | replace('a', 'c') }}{{ [1, none] | join }}{{ [{'a': 1}, {'a': 2}] | join(d=', ', attribute='a') }}"
        "{{ 1 ~ none ~ nothing ~ 2.5 }}{{ [1] + [2] }}{{ 1 + 2 }}{{ 5 % 3 }}{{ '{:>5}|{b}'.format(1, b=2) }}"
        "{{ 'x'.center(5) }}{{ [1, 2, 3] | batch(2) | list }}{{ 'x' | indent(2, true) }}{{ ('a' ~ 'b') | upper }}"
        "{% macro f(a) %}{{ a ~ '!' }}{% endmacro %}{{ f('x' ~ 1) }}{{ ', '.join(['a', 'b']) }}"
    )
    assert render(template, []) == ImmutableSandboxedEnvironment().from_string(template).render()


def test_a_loop_without_output_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "SECONDS", 0.3)
    with pytest.raises(BrokenCheckpoint, match="without end"):
        render("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", [])


def test_endless_output_is_ended() -> None:
    with pytest.raises(BrokenCheckpoint, match="without end"):
        render("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", [])
