"""The completion script for fish; knows the command tree and fish's `complete`."""

from __future__ import annotations

from chatcli.cli.completions.tree import Command, Option, Value

_SCRIPT = r"""# fish completion for chatcli, made by `chatcli completion fish`.

function __chatcli_list
    set -l home $HOME/.local/state
    set -q XDG_STATE_HOME; and set home $XDG_STATE_HOME
    set -l places $home/chatcli "$HOME/Library/Application Support/chatcli"
    set -q CHATCLI_HOME; and set -p places $CHATCLI_HOME/state
    for place in $places
        if test -r $place/completion/$argv[1]
            while read -l line
                echo $line
            end <$place/completion/$argv[1]
            return
        end
    end
end

function __chatcli_at
    set -l route chatcli
    for word in (commandline -opc)[2..]
        if contains -- "$route $word" $__chatcli_routes
            set route "$route $word"
        end
    end
    test "$route" = "$argv[1]"
end

set -g __chatcli_routes @ROUTES@
complete -c chatcli -f
@LINES@
"""


def script(root: Command) -> str:
    """The whole script for the tree below `root`."""
    routes = " ".join(_quoted(each.path) for each in root.walk())
    lines = [line for each in root.walk() for line in _lines(each)]
    return _SCRIPT.replace("@ROUTES@", routes).replace("@LINES@", "\n".join(lines))


def _lines(command: Command) -> list[str]:
    at = f"complete -c chatcli -n {_quoted(f'__chatcli_at {_inner(command.path)}')}"
    lines = [f"{at} -a {child.name} -d {_quoted(child.help)}" for child in command.children]
    if not command.children and (argument := _value(command.argument)):
        lines.append(f"{at} {argument}")
    return lines + [_option(at, option) for option in command.options]


def _option(at: str, option: Option) -> str:
    names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names)
    value = "" if option.value is None else f" -r {_value(option.value) or '-f'}"
    return f"{at} {names}{value} -d {_quoted(option.help)}"


def _value(value: Value) -> str:
    if value.choices:
        return f"-a {_quoted(' '.join(value.choices))}"
    if value.list == "models":
        return "-a '(__chatcli_list models; __fish_complete_directories)'"
    if value.list:
        return f"-k -a '(__chatcli_list {value.list})'"
    return "-F" if value.files else ""


def _inner(path: str) -> str:
    return f'"{path}"'


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
