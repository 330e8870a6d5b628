"""The completion script for zsh; knows the command tree and zsh's completion system."""

from __future__ import annotations

from chatcli.cli.completions.tree import Command

_SCRIPT = r"""#compdef chatcli
# zsh completion for chatcli, made by `chatcli completion zsh`.

_chatcli_list() {
    local place line
    local -a entries
    for place in "${CHATCLI_HOME:+$CHATCLI_HOME/state}" "${XDG_STATE_HOME:-$HOME/.local/state}/chatcli" \
        "$HOME/Library/Application Support/chatcli"; do
        [[ -n $place && -r $place/completion/$1 ]] || continue
        while IFS= read -r line; do
            entries+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
        done <"$place/completion/$1"
        _describe -V "$1" entries
        return
    done
}

_chatcli_value() {
    case $1 in
    files) _files ;;
    'list models') _chatcli_list models; _files -/ ;;
    list\ *) _chatcli_list "${1#list }" ;;
    ?*) compadd -- ${=1} ;;
    esac
}

_chatcli_command() {
    commands=() flags=() valued=() argument=
    case $1 in
@COMMANDS@
    esac
}

_chatcli() {
    local route=chatcli argument word
    local -a commands flags
    local -A valued
    _chatcli_command $route
    for word in ${words[2,CURRENT-1]}; do
        [[ -n ${commands[(r)${(b)word}:*]} ]] || continue
        route+=" $word"
        _chatcli_command $route
    done
    local current=${words[CURRENT]} previous=${words[CURRENT-1]}
    if [[ $current == --*=* ]]; then
        previous=${current%%=*}
        compset -P '*='
    fi
    if [[ $previous == -* && -n ${valued[$previous]} ]]; then
        [[ ${valued[$previous]} == any ]] || _chatcli_value "${valued[$previous]}"
    elif [[ $current == -* ]]; then
        _describe -o option flags
    elif (( ${#commands} )); then
        _describe command commands
    else
        _chatcli_value "$argument"
    fi
}

if [[ $funcstack[1] == _chatcli ]]; then
    _chatcli "$@"
else
    compdef _chatcli chatcli
fi
"""


def script(root: Command) -> str:
    """The whole script for the tree below `root`."""
    return _SCRIPT.replace("@COMMANDS@", "\n".join(_case(each) for each in root.walk()))


def _case(command: Command) -> str:
    children = " ".join(_quoted(f"{child.name}:{child.help}") for child in command.children)
    flags = " ".join(_quoted(f"{name}:{option.help}") for option in command.options for name in option.names)
    valued = " ".join(
        f"{name} {_quoted(option.value.word or 'any')}"
        for option in command.options
        if option.value
        for name in option.names
    )
    return (
        f"    {_quoted(command.path)})\n        commands=({children})\n        flags=({flags})\n"
        f"        valued=({valued})\n        argument={_quoted(command.argument.word)}\n        ;;"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
