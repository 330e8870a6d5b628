# bash completion for chatcli, made by `chatcli completion bash`.

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
    'chatcli') commands='run ask batch serve pull replay tokens ps stop bench completion models adapters history templates servers config' flags='--debug --version -h --help' argument='' ;;
    'chatcli run') commands='' flags='-p --prompt -a --attach --server -s --system -c --continue --id --no-history --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --overflow --think --no-think --reasoning-effort --plain --no-plain --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --keep-alive --revision --subfolder --trust-remote-code -h --help' argument='list models' ;;
    'chatcli ask') commands='' flags='-f --file -a --attach -t --template --truncate -o --output --json --jsonl -q --quiet --no-stream -n --answers --logprobs --schema --regex --choice --require-complete -m --model --server -s --system -c --continue --id --no-history --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --overflow --think --no-think --reasoning-effort --plain --no-plain --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --keep-alive --revision --subfolder --trust-remote-code -h --help' argument='' ;;
    'chatcli batch') commands='' flags='-o --output --overwrite -m --model --server -s --system --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --think --no-think --reasoning-effort --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --revision --subfolder -h --help' argument='files' ;;
    'chatcli serve') commands='' flags='--host --port --socket --api-key-file --api-key --parallel --queue --replicas --ray-address --engine --time-limit --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --revision --subfolder --trust-remote-code -h --help' argument='list models' ;;
    'chatcli pull') commands='' flags='--revision --source --force -h --help' argument='list models' ;;
    'chatcli replay') commands='' flags='-h --help' argument='list conversations' ;;
    'chatcli tokens') commands='' flags='-m --model --chat --ids --revision --trust-remote-code -h --help' argument='' ;;
    'chatcli ps') commands='' flags='--json -h --help' argument='' ;;
    'chatcli stop') commands='' flags='-h --help' argument='list models' ;;
    'chatcli bench') commands='' flags='--prompt --tokens --rounds --json --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --revision --subfolder -h --help' argument='list models' ;;
    'chatcli completion') commands='' flags='--install -h --help' argument='bash zsh fish powershell' ;;
    'chatcli models') commands='show plan pull rm alias' flags='--json -h --help' argument='' ;;
    'chatcli models show') commands='' flags='--json -h --help' argument='list models' ;;
    'chatcli models plan') commands='' flags='--context --dtype --quant --fit --device --devices --max-memory --revision --subfolder --json -h --help' argument='list models' ;;
    'chatcli models pull') commands='' flags='--revision --source --force -h --help' argument='list models' ;;
    'chatcli models rm') commands='' flags='--revision -y --yes -h --help' argument='list models' ;;
    'chatcli models alias') commands='' flags='--remove -h --help' argument='' ;;
    'chatcli adapters') commands='show match render' flags='--json -h --help' argument='' ;;
    'chatcli adapters show') commands='' flags='--json -h --help' argument='list adapters' ;;
    'chatcli adapters match') commands='' flags='--json -h --help' argument='list models' ;;
    'chatcli adapters render') commands='' flags='-h --help' argument='list adapters' ;;
    'chatcli history') commands='show search export import rm prune title path' flags='-n --limit --json -h --help' argument='' ;;
    'chatcli history show') commands='' flags='--json -h --help' argument='list conversations' ;;
    'chatcli history search') commands='' flags='-n --limit --json -h --help' argument='' ;;
    'chatcli history export') commands='' flags='--all -f --format -o --output -h --help' argument='list conversations' ;;
    'chatcli history import') commands='' flags='-h --help' argument='files' ;;
    'chatcli history rm') commands='' flags='-y --yes -h --help' argument='list conversations' ;;
    'chatcli history prune') commands='' flags='--older-than --dry-run -y --yes -h --help' argument='' ;;
    'chatcli history title') commands='' flags='-h --help' argument='list conversations' ;;
    'chatcli history path') commands='' flags='-h --help' argument='' ;;
    'chatcli templates') commands='show' flags='--json -h --help' argument='' ;;
    'chatcli templates show') commands='' flags='-h --help' argument='list templates' ;;
    'chatcli servers') commands='add rm test' flags='--json -h --help' argument='' ;;
    'chatcli servers add') commands='' flags='-m --model --key-from --kind --thinks --plain-http -h --help' argument='' ;;
    'chatcli servers rm') commands='' flags='-h --help' argument='list servers' ;;
    'chatcli servers test') commands='' flags='--all -h --help' argument='list servers' ;;
    'chatcli config') commands='path show set unset' flags='-h --help' argument='' ;;
    'chatcli config path') commands='' flags='-h --help' argument='' ;;
    'chatcli config show') commands='' flags='-h --help' argument='' ;;
    'chatcli config set') commands='' flags='-h --help' argument='model system server temperature top_p top_k min_p repetition_penalty seed max_tokens stop overflow think reasoning_effort history plain editing_mode adapter dtype quant fit context device devices max_memory lora draft compile keep_alive model_folders' ;;
    'chatcli config unset') commands='' flags='-h --help' argument='model system server temperature top_p top_k min_p repetition_penalty seed max_tokens stop overflow think reasoning_effort history plain editing_mode adapter dtype quant fit context device devices max_memory lora draft compile keep_alive model_folders' ;;
    *) return 1 ;;
    esac
}

_chatcli_kind() {
    case $1 in
    'chatcli run -p' | 'chatcli run --prompt') kind='any' ;;
    'chatcli run -a' | 'chatcli run --attach') kind='files' ;;
    'chatcli run --server') kind='list servers' ;;
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
    'chatcli run --reasoning-effort') kind='low medium high' ;;
    'chatcli run --adapter') kind='list adapters' ;;
    'chatcli run --dtype') kind='auto float32 bfloat16 float16' ;;
    'chatcli run --quant') kind='auto none int8 int4 fp8' ;;
    'chatcli run --fit') kind='auto strict' ;;
    'chatcli run --context') kind='any' ;;
    'chatcli run --device') kind='any' ;;
    'chatcli run --devices') kind='any' ;;
    'chatcli run --max-memory') kind='any' ;;
    'chatcli run --lora') kind='any' ;;
    'chatcli run --draft') kind='list models' ;;
    'chatcli run --keep-alive') kind='any' ;;
    'chatcli run --revision') kind='any' ;;
    'chatcli run --subfolder') kind='any' ;;
    'chatcli ask -f' | 'chatcli ask --file') kind='files' ;;
    'chatcli ask -a' | 'chatcli ask --attach') kind='files' ;;
    'chatcli ask -t' | 'chatcli ask --template') kind='list templates' ;;
    'chatcli ask --truncate') kind='head tail middle' ;;
    'chatcli ask -o' | 'chatcli ask --output') kind='files' ;;
    'chatcli ask -n' | 'chatcli ask --answers') kind='any' ;;
    'chatcli ask --logprobs') kind='any' ;;
    'chatcli ask --schema') kind='files' ;;
    'chatcli ask --regex') kind='any' ;;
    'chatcli ask --choice') kind='any' ;;
    'chatcli ask -m' | 'chatcli ask --model') kind='list models' ;;
    'chatcli ask --server') kind='list servers' ;;
    'chatcli ask -s' | 'chatcli ask --system') kind='any' ;;
    'chatcli ask --id') kind='list conversations' ;;
    'chatcli ask --temperature') kind='any' ;;
    'chatcli ask --top-p') kind='any' ;;
    'chatcli ask --top-k') kind='any' ;;
    'chatcli ask --min-p') kind='any' ;;
    'chatcli ask --repetition-penalty') kind='any' ;;
    'chatcli ask --seed') kind='any' ;;
    'chatcli ask --max-tokens') kind='any' ;;
    'chatcli ask --stop') kind='any' ;;
    'chatcli ask --overflow') kind='stop drop-oldest' ;;
    'chatcli ask --reasoning-effort') kind='low medium high' ;;
    'chatcli ask --adapter') kind='list adapters' ;;
    'chatcli ask --dtype') kind='auto float32 bfloat16 float16' ;;
    'chatcli ask --quant') kind='auto none int8 int4 fp8' ;;
    'chatcli ask --fit') kind='auto strict' ;;
    'chatcli ask --context') kind='any' ;;
    'chatcli ask --device') kind='any' ;;
    'chatcli ask --devices') kind='any' ;;
    'chatcli ask --max-memory') kind='any' ;;
    'chatcli ask --lora') kind='any' ;;
    'chatcli ask --draft') kind='list models' ;;
    'chatcli ask --keep-alive') kind='any' ;;
    'chatcli ask --revision') kind='any' ;;
    'chatcli ask --subfolder') kind='any' ;;
    'chatcli batch -o' | 'chatcli batch --output') kind='files' ;;
    'chatcli batch -m' | 'chatcli batch --model') kind='list models' ;;
    'chatcli batch --server') kind='list servers' ;;
    'chatcli batch -s' | 'chatcli batch --system') kind='any' ;;
    'chatcli batch --temperature') kind='any' ;;
    'chatcli batch --top-p') kind='any' ;;
    'chatcli batch --top-k') kind='any' ;;
    'chatcli batch --min-p') kind='any' ;;
    'chatcli batch --repetition-penalty') kind='any' ;;
    'chatcli batch --seed') kind='any' ;;
    'chatcli batch --max-tokens') kind='any' ;;
    'chatcli batch --stop') kind='any' ;;
    'chatcli batch --reasoning-effort') kind='low medium high' ;;
    'chatcli batch --adapter') kind='list adapters' ;;
    'chatcli batch --dtype') kind='auto float32 bfloat16 float16' ;;
    'chatcli batch --quant') kind='auto none int8 int4 fp8' ;;
    'chatcli batch --fit') kind='auto strict' ;;
    'chatcli batch --context') kind='any' ;;
    'chatcli batch --device') kind='any' ;;
    'chatcli batch --devices') kind='any' ;;
    'chatcli batch --max-memory') kind='any' ;;
    'chatcli batch --lora') kind='any' ;;
    'chatcli batch --draft') kind='list models' ;;
    'chatcli batch --revision') kind='any' ;;
    'chatcli batch --subfolder') kind='any' ;;
    'chatcli serve --host') kind='any' ;;
    'chatcli serve --port') kind='any' ;;
    'chatcli serve --socket') kind='files' ;;
    'chatcli serve --api-key-file') kind='files' ;;
    'chatcli serve --api-key') kind='any' ;;
    'chatcli serve --parallel') kind='any' ;;
    'chatcli serve --queue') kind='any' ;;
    'chatcli serve --replicas') kind='any' ;;
    'chatcli serve --ray-address') kind='any' ;;
    'chatcli serve --engine') kind='local vllm' ;;
    'chatcli serve --time-limit') kind='any' ;;
    'chatcli serve --adapter') kind='list adapters' ;;
    'chatcli serve --dtype') kind='auto float32 bfloat16 float16' ;;
    'chatcli serve --quant') kind='auto none int8 int4 fp8' ;;
    'chatcli serve --fit') kind='auto strict' ;;
    'chatcli serve --context') kind='any' ;;
    'chatcli serve --device') kind='any' ;;
    'chatcli serve --devices') kind='any' ;;
    'chatcli serve --max-memory') kind='any' ;;
    'chatcli serve --lora') kind='any' ;;
    'chatcli serve --draft') kind='list models' ;;
    'chatcli serve --revision') kind='any' ;;
    'chatcli serve --subfolder') kind='any' ;;
    'chatcli pull --revision') kind='any' ;;
    'chatcli pull --source') kind='hf modelscope' ;;
    'chatcli tokens -m' | 'chatcli tokens --model') kind='list models' ;;
    'chatcli tokens --revision') kind='any' ;;
    'chatcli bench --prompt') kind='any' ;;
    'chatcli bench --tokens') kind='any' ;;
    'chatcli bench --rounds') kind='any' ;;
    'chatcli bench --adapter') kind='list adapters' ;;
    'chatcli bench --dtype') kind='auto float32 bfloat16 float16' ;;
    'chatcli bench --quant') kind='auto none int8 int4 fp8' ;;
    'chatcli bench --fit') kind='auto strict' ;;
    'chatcli bench --context') kind='any' ;;
    'chatcli bench --device') kind='any' ;;
    'chatcli bench --devices') kind='any' ;;
    'chatcli bench --max-memory') kind='any' ;;
    'chatcli bench --lora') kind='any' ;;
    'chatcli bench --draft') kind='list models' ;;
    'chatcli bench --revision') kind='any' ;;
    'chatcli bench --subfolder') kind='any' ;;
    'chatcli models plan --context') kind='any' ;;
    'chatcli models plan --dtype') kind='auto float32 bfloat16 float16' ;;
    'chatcli models plan --quant') kind='auto none int8 int4 fp8' ;;
    'chatcli models plan --fit') kind='auto strict' ;;
    'chatcli models plan --device') kind='any' ;;
    'chatcli models plan --devices') kind='any' ;;
    'chatcli models plan --max-memory') kind='any' ;;
    'chatcli models plan --revision') kind='any' ;;
    'chatcli models plan --subfolder') kind='any' ;;
    'chatcli models pull --revision') kind='any' ;;
    'chatcli models pull --source') kind='hf modelscope' ;;
    'chatcli models rm --revision') kind='any' ;;
    'chatcli history -n' | 'chatcli history --limit') kind='any' ;;
    'chatcli history search -n' | 'chatcli history search --limit') kind='any' ;;
    'chatcli history export -f' | 'chatcli history export --format') kind='md json jsonl html' ;;
    'chatcli history export -o' | 'chatcli history export --output') kind='files' ;;
    'chatcli history prune --older-than') kind='any' ;;
    'chatcli servers add -m' | 'chatcli servers add --model') kind='list models' ;;
    'chatcli servers add --key-from') kind='any' ;;
    'chatcli servers add --kind') kind='chatcli openai vllm vllm-guided sglang tgi llama.cpp ollama fastchat transformers openrouter deepseek mistral groq litellm lmstudio other' ;;
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
