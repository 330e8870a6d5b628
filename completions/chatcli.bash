# bash completion for chatcli, made by `chatcli completion bash`.

_chatcli_list() {
    local place name rest
    for place in "${CHATCLI_HOME:+$CHATCLI_HOME/state}" "${XDG_STATE_HOME:-$HOME/.local/state}/chatcli" \
        "$HOME/Library/Application Support/chatcli"; do
        if [[ -n $place && -r $place/completion/$1 ]]; then
            while IFS=$'\t' read -r name rest; do printf '%s\n' "$name"; done <"$place/completion/$1"
            return
        fi
    done
}

_chatcli_command() {
    case $1 in
    'chatcli') commands='run ask tokens completion history templates config' flags='--debug --version -h --help' argument='' ;;
    'chatcli run') commands='' flags='-s --system -c --continue --id --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --overflow -h --help' argument='list models' ;;
    'chatcli ask') commands='' flags='-m --model -s --system --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --overflow -h --help' argument='' ;;
    'chatcli tokens') commands='' flags='-m --model --chat --ids -h --help' argument='' ;;
    'chatcli completion') commands='' flags='--install -h --help' argument='bash zsh fish powershell' ;;
    'chatcli history') commands='show' flags='-n --limit -h --help' argument='' ;;
    'chatcli history show') commands='' flags='-h --help' argument='list conversations' ;;
    'chatcli templates') commands='show' flags='--json -h --help' argument='' ;;
    'chatcli templates show') commands='' flags='-h --help' argument='list templates' ;;
    'chatcli config') commands='path show set' flags='-h --help' argument='' ;;
    'chatcli config path') commands='' flags='-h --help' argument='' ;;
    'chatcli config show') commands='' flags='-h --help' argument='' ;;
    'chatcli config set') commands='' flags='-h --help' argument='model system temperature top_p top_k min_p repetition_penalty seed max_tokens stop overflow' ;;
    *) return 1 ;;
    esac
}

_chatcli_kind() {
    case $1 in
    'chatcli run -s' | 'chatcli run --system') kind='any' ;;
    'chatcli run --id') kind='list conversations' ;;
    'chatcli run --temperature') kind='any' ;;
    'chatcli run --top-p') kind='any' ;;
    'chatcli run --top-k') kind='any' ;;
    'chatcli run --min-p') kind='any' ;;
    'chatcli run --repetition-penalty') kind='any' ;;
    'chatcli run --seed') kind='any' ;;
    'chatcli run --max-tokens') kind='any' ;;
    'chatcli run --stop') kind='any' ;;
    'chatcli run --overflow') kind='stop drop-oldest' ;;
    'chatcli ask -m' | 'chatcli ask --model') kind='list models' ;;
    'chatcli ask -s' | 'chatcli ask --system') kind='any' ;;
    'chatcli ask --temperature') kind='any' ;;
    'chatcli ask --top-p') kind='any' ;;
    'chatcli ask --top-k') kind='any' ;;
    'chatcli ask --min-p') kind='any' ;;
    'chatcli ask --repetition-penalty') kind='any' ;;
    'chatcli ask --seed') kind='any' ;;
    'chatcli ask --max-tokens') kind='any' ;;
    'chatcli ask --stop') kind='any' ;;
    'chatcli ask --overflow') kind='stop drop-oldest' ;;
    'chatcli tokens -m' | 'chatcli tokens --model') kind='list models' ;;
    'chatcli history -n' | 'chatcli history --limit') kind='any' ;;
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
        mapfile -t COMPREPLY < <(compgen -W "$(_chatcli_list models)" -- "$2"; compgen -d -S / -- "$2")
        [[ ${COMPREPLY[0]} == */ ]] && compopt -o nospace
        ;;
    list\ *) mapfile -t COMPREPLY < <(compgen -W "$(_chatcli_list "${1#list }")" -- "$2") ;;
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
