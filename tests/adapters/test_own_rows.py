"""A person's own adapters.toml: rows added and overruled, and what is said of mistakes."""

from pathlib import Path

import pytest

from chatcli.adapters.table import Table, load_table, shipped
from chatcli.adapters.template import render
from chatcli.errors import ConfigError

QUESTION = [{"role": "user", "content": "q"}]


def loaded(folder: Path, text: str) -> Table:
    (folder / "adapters.toml").write_text(text, encoding="utf-8")
    return load_table(folder)


def test_without_a_file_the_table_is_ours(tmp_path: Path) -> None:
    assert load_table(tmp_path) == shipped()
    assert load_table(tmp_path / "missing") == shipped()
    assert loaded(tmp_path, "\ufeff# nothing yet\r\n") == shipped()


def test_a_row_is_added(tmp_path: Path) -> None:
    table = loaded(
        tmp_path,
        """
        [mine]
        match = ["My_Model*"]
        template = "turns.jinja"
        parameters = { user = "Q: {}\\n", assistant = "A: {}\\n" }
        stop = ["\\nQ:"]
        defaults = { temperature = 0, top_k = 5 }
        notes = "Trained at home."
        """,
    )
    found = table.match("me/my-model-7b")
    assert found is not None
    assert (found.adapter.name, found.reason) == ("mine", "the name fits My_Model*")
    assert render(found.adapter.template_text, QUESTION) == "Q: q\nA:"
    assert (found.adapter.defaults.temperature, found.adapter.defaults.top_k) == (0, 5)
    assert len(table.rows) == len(shipped().rows) + 1


def test_a_row_of_ours_is_overruled_key_by_key(tmp_path: Path) -> None:
    table = loaded(tmp_path, '[gemma]\ndefaults = { temperature = 0.2 }\nsystem = "Be brief."\n')
    own, ours = table.row("gemma"), shipped().row("gemma")
    assert own.defaults.temperature == 0.2
    assert own.defaults.top_k is None, "what is said of a key takes the place of all of it"
    assert own.match == ours.match
    assert render(ours.template_text, QUESTION) == render(own.template_text, QUESTION).replace("Be brief.\n\n", "")
    assert ours.defaults.temperature == 1.0, "the shipped table stays as it is"


def test_a_row_of_ours_may_be_named_in_any_case(tmp_path: Path) -> None:
    """Two rows that a person calls by one name would be one too many."""
    table = loaded(tmp_path, '[Gemma]\nstop = ["\\nUser:"]\n["Vicuna-V1.1"]\nsystem = "S"\n')
    assert len(table.rows) == len(shipped().rows)
    assert (table.row("gemma").stop, table.row("gemma").match) == (("\nUser:",), shipped().row("gemma").match)
    assert table.row("vicuna_v1.1").system == "S"


def test_a_template_may_stand_in_the_row(tmp_path: Path) -> None:
    table = loaded(tmp_path, "[mine]\ntemplate = '''{% for m in messages %}<{{ m.content }}>{% endfor %}'''\n")
    assert render(table.row("mine").template_text, QUESTION) == "<q>"


def test_a_template_may_stand_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "mine.jinja").write_text("{{ name }}: {{ messages[0].content }}", encoding="utf-8")
    table = loaded(tmp_path, '[mine]\ntemplate = "prompts/mine.jinja"\nparameters = { name = "Ünï \\"{% 🐼\\n" }\n')
    assert render(table.row("mine").template_text, QUESTION) == 'Ünï "{% 🐼\n: q'


def test_a_file_of_theirs_goes_before_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "chatml.jinja").write_text("mine", encoding="utf-8")
    table = loaded(tmp_path, '[chatml]\ntemplate = "chatml.jinja"\n')
    assert table.row("chatml").template_text == "mine"
    assert table.row("qwen3").template_text != "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mine", r"is not TOML"),
        ('mine = "x"', r'"mine" must be a row: a table such as \[mine\]'),
        ('[mine]\nmach = ["x*"]', r'row mine: there is no key "mach"; did you mean match\?'),
        ("[mine]\nzzz = 1", r'row mine: there is no key "zzz"; there are always_chats, base, '),
        ('[mine]\nport = "moss"', r'row mine: there is no key "port"'),
        ('[mine]\nmatch = "x*"', r"row mine: match must be a list of texts that are not empty"),
        ('[mine]\nmatch = ["x*", ""]', r"row mine: match must be a list of texts that are not empty"),
        ("[mine]\nmatch = [1]", r"row mine: match must be a list of texts"),
        ("[mine]\ntemplate = 1", r"row mine: template must be a text"),
        ('[mine]\noverrules = "yes"', r"row mine: overrules must be true or false"),
        ('[mine]\nreasoning = ["<think>"]', r"row mine: reasoning must be two or three texts"),
        ('[mine]\ntools = "hermse"', r'row mine: tools: there is no "hermse"; did you mean hermes\?'),
        ("[mine]\ndefaults = 1", r"row mine: defaults must be a table, such as \{ temperature = 0\.7 \}"),
        ("[mine]\ndefaults = { temprature = 1 }", r'row mine: defaults: there is no "temprature"; did you mean temper'),
        ("[mine]\ndefaults = { seed = 1 }", r'row mine: defaults: there is no "seed"; there are min_p'),
        ('[mine]\ndefaults = { top_p = "x" }', r'row mine: defaults: top_p cannot be "x": it must be a number'),
        ("[mine]\ndefaults = { top_p = 2 }", r"row mine: defaults: top_p cannot be 2"),
        ("[mine]\nparameters = 1", r'row mine: parameters must be a table, such as \{ user = "USER: \{\} " \}'),
        ('[mine]\nparameters = { "a-b" = "x" }', r'row mine: parameters: a template cannot have a variable "a-b"'),
        ('[mine]\nparameters = { messages = "x" }', r'row mine: parameters: a template cannot have a variable "messag'),
        ("[mine]\nparameters = { a = [1] }", r"row mine: parameters: a must be a text, a number, true or false"),
        (
            '[mine]\ntemplate = "gone.jinja"',
            r"row mine: template: there is no file gone\.jinja beside it, nor is it one of ours",
        ),
        ('[mine]\ntemplate = "."', r"row mine: template: \. cannot be read"),
        (
            "[mine]\ntemplate = '''a\n{% for m in messages %}\n{{ m. }}\n'''\nparameters = { x = 1 }",
            r"row mine: template: line 3 of its text is no Jinja: expected name or number",
        ),
        ('[mine]\ntemplate = "bad.jinja"', r"row mine: template: line 2 of bad\.jinja is no Jinja: "),
        (
            '[mine]\ntemplate = "turns.jinja"\nparameters = { assistant = "A: {}" }',
            r"row mine: template: turns\.jinja fails with a plain question: 'user' is undefined",
        ),
        (
            "[mine]\ntemplate = '{{ 1 + messages }}'",
            r"row mine: template: its text fails with a plain question",
        ),
        (
            '[mine]\nmatch = ["vicuna*"]',
            r'row mine: match: "vicuna\*" could fit a name as well as row vicuna_v1\.1 does; write more of the name, '
            r"or name the row vicuna_v1\.1 to change that one",
        ),
        ('[a]\nmatch = ["x*y"]\n[b]\nmatch = ["xy*"]', r'row b: match: "xy\*" could fit a name as well as row a does'),
    ],
)
def test_a_mistake_is_reported_by_file_row_and_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.jinja").write_text("ok\n{% endfor %}", encoding="utf-8")
    with pytest.raises(ConfigError, match=said) as error:
        loaded(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "adapters.toml"))


def test_a_template_that_refuses_is_none_that_fails(tmp_path: Path) -> None:
    table = loaded(tmp_path, '[mine]\ntemplate = "{{ raise_exception(1) }}"\n')
    assert table.row("mine").template


def test_a_row_name_with_a_dot_wants_quotes(tmp_path: Path) -> None:
    """[vicuna_v1.1] is a table in a table for TOML; the message shows how it is meant."""
    with pytest.raises(ConfigError, match=r'row vicuna_v1: "1" must not be a table; did you mean \["vicuna_v1\.1"\]\?'):
        loaded(tmp_path, '[vicuna_v1.1]\nsystem = "x"\n')


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "adapters.toml").write_bytes(b"# \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 2"):
        load_table(tmp_path)


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "adapters.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_table(tmp_path)
