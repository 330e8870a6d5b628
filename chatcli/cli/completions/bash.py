"""The completion script for bash; knows the command tree and bash's programmable completion."""

from __future__ import annotations

from chatcli.cli.completions.tree import Command

_SCRIPT = r"""# bash completion for chatcli, made by `chatcli completion bash`.

# Offers what begins with $2 in the list $1. No `compgen -W`: it would run a name such as $(date).
_chatcli_list() {
    local place name rest quoted
    for place in "${CHATCLI_HOME:+$CHATCLI_HOME/state}" "${XDG_STATE_HOME:-${HOME-}/.local/state}/chatcli" \
        "${HOME-}/Library/Application Support/chatcli"; do
        if [[ -n $place && -r $place/completion/$1 ]]; then
            while IFS=$'\t' read -r name rest; do
                printf -v quoted %q "$name"
                [[ $name == "$2"* || $quoted == "$2"* ]] && COMPREPLY+=("$quoted")
            done <"$place/completion/$1"
            return
        fi
    done
}

_chatcli_command() {
    case $1 in
@COMMANDS@
    *) return 1 ;;
    esac
}

_chatcli_kind() {
    case $1 in
@KINDS@
    *) kind= ;;
    esac
}

_chatcli_value() {
    case $1 in
    files)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$2")
        ;;
    'list models')
        _chatcli_list models "$2"
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -S / -- "$2")
        [[ ${COMPREPLY[0]} == */ ]] && compopt -o nospace
        ;;
    list\ *) _chatcli_list "${1#list }" "$2" ;;
    ?*) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2") ;;
    esac
}

_chatcli() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local path=chatcli commands flags argument kind index
    COMPREPLY=()
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = && COMP_CWORD -ge 2 ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    _chatcli_command "$path"
    for ((index = 1; index < COMP_CWORD; index++)); do
        [[ " $commands " == *" ${COMP_WORDS[index]} "* ]] || continue
        path+=" ${COMP_WORDS[index]}"
        _chatcli_command "$path"
    done
    _chatcli_kind "$path $previous"
    if [[ $previous == -* && -n $kind ]]; then
        [[ $kind == any ]] || _chatcli_value "$kind" "$current"
    elif [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$current")
    elif [[ -n $commands ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
    else
        _chatcli_value "$argument" "$current"
    fi
}

complete -F _chatcli chatcli
"""


def script(root: Command) -> str:
    """The whole script for the tree below `root`."""
    commands, kinds = [], []
    for each in root.walk():
        children = " ".join(child.name for child in each.children)
        flags = " ".join(name for option in each.options for name in option.names)
        commands.append(f"    '{each.path}') commands='{children}' flags='{flags}' argument='{each.argument.word}' ;;")
        for option in each.options:
            if option.value:
                names = " | ".join(f"'{each.path} {name}'" for name in option.names)
                kinds.append(f"    {names}) kind='{option.value.word or 'any'}' ;;")
    return _SCRIPT.replace("@COMMANDS@", "\n".join(commands)).replace("@KINDS@", "\n".join(kinds))
