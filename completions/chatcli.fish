# fish completion for chatcli, made by `chatcli completion fish`.

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

set -g __chatcli_routes 'chatcli' 'chatcli run' 'chatcli ask' 'chatcli batch' 'chatcli tokens' 'chatcli completion' 'chatcli history' 'chatcli history show' 'chatcli history search' 'chatcli history export' 'chatcli history import' 'chatcli history rm' 'chatcli history prune' 'chatcli history title' 'chatcli history path' 'chatcli templates' 'chatcli templates show' 'chatcli config' 'chatcli config path' 'chatcli config show' 'chatcli config set'
complete -c chatcli -f
complete -c chatcli -n '__chatcli_at "chatcli"' -a run -d 'Chat in the terminal; the model loads while you type'
complete -c chatcli -n '__chatcli_at "chatcli"' -a ask -d 'Answer once, on standard output'
complete -c chatcli -n '__chatcli_at "chatcli"' -a batch -d 'Answer a file of questions, many at once; a run that was broken off goes on where it was'
complete -c chatcli -n '__chatcli_at "chatcli"' -a tokens -d 'Count the tokens of a text for a model'
complete -c chatcli -n '__chatcli_at "chatcli"' -a completion -d 'Print the completion script of a shell, or install it'
complete -c chatcli -n '__chatcli_at "chatcli"' -a history -d 'List, show, find, export, import and remove stored conversations'
complete -c chatcli -n '__chatcli_at "chatcli"' -a templates -d 'List and show prompt templates'
complete -c chatcli -n '__chatcli_at "chatcli"' -a config -d 'Show and change settings'
complete -c chatcli -n '__chatcli_at "chatcli"' -l debug -d 'Show tracebacks of errors; may stand anywhere'
complete -c chatcli -n '__chatcli_at "chatcli"' -l version -d 'Show the version and leave'
complete -c chatcli -n '__chatcli_at "chatcli"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli run"' -a '(__chatcli_list models; __fish_complete_directories)'
complete -c chatcli -n '__chatcli_at "chatcli run"' -s s -l system -r -f -d 'System message to answer under; "" for none'
complete -c chatcli -n '__chatcli_at "chatcli run"' -s c -l continue -d 'Pick up the latest conversation'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l id -r -k -a '(__chatcli_list conversations)' -d 'Pick up the conversation with this id'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l temperature -r -f -d 'Randomness; 0 always takes the likeliest token'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l top-p -r -f -d 'Sample among the likeliest tokens of this total probability'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l top-k -r -f -d 'Sample among this many likeliest tokens; 0 is all'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l min-p -r -f -d 'Leave out tokens less likely than this share of the likeliest'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l repetition-penalty -r -f -d 'Above 1 makes repeated tokens less likely'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l seed -r -f -d 'Repeat the same random choices'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l max-tokens -r -f -d 'Longest answer, in tokens; default: what the context holds'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l stop -r -f -d 'Text that ends the answer; may be given several times'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l overflow -r -a 'stop drop-oldest' -d 'When the context is full: drop-oldest exchanges (and say so), or stop'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l think -l no-think -d 'Let a model that can think do so, or not; default: its way'
complete -c chatcli -n '__chatcli_at "chatcli run"' -l reasoning-effort -r -a 'low medium high' -d 'How much a model that can tell thinks: low, medium or high'
complete -c chatcli -n '__chatcli_at "chatcli run"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -s m -l model -r -a '(__chatcli_list models; __fish_complete_directories)' -d 'Hub id, alias or folder; default: the configured model'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -s s -l system -r -f -d 'System message to answer under; "" for none'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l temperature -r -f -d 'Randomness; 0 always takes the likeliest token'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l top-p -r -f -d 'Sample among the likeliest tokens of this total probability'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l top-k -r -f -d 'Sample among this many likeliest tokens; 0 is all'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l min-p -r -f -d 'Leave out tokens less likely than this share of the likeliest'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l repetition-penalty -r -f -d 'Above 1 makes repeated tokens less likely'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l seed -r -f -d 'Repeat the same random choices'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l max-tokens -r -f -d 'Longest answer, in tokens; default: what the context holds'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l stop -r -f -d 'Text that ends the answer; may be given several times'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l overflow -r -a 'stop drop-oldest' -d 'When the context is full: drop-oldest exchanges (and say so), or stop'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l think -l no-think -d 'Let a model that can think do so, or not; default: its way'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -l reasoning-effort -r -a 'low medium high' -d 'How much a model that can tell thinks: low, medium or high'
complete -c chatcli -n '__chatcli_at "chatcli ask"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -F
complete -c chatcli -n '__chatcli_at "chatcli batch"' -s o -l output -r -F -d 'Where the answers go, in the order of the questions'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -s m -l model -r -a '(__chatcli_list models; __fish_complete_directories)' -d 'Hub id, alias or folder; default: the configured model'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -s s -l system -r -f -d 'System message to answer under; "" for none'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l temperature -r -f -d 'Randomness; 0 always takes the likeliest token'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l top-p -r -f -d 'Sample among the likeliest tokens of this total probability'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l top-k -r -f -d 'Sample among this many likeliest tokens; 0 is all'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l min-p -r -f -d 'Leave out tokens less likely than this share of the likeliest'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l repetition-penalty -r -f -d 'Above 1 makes repeated tokens less likely'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l seed -r -f -d 'Repeat the same random choices'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l max-tokens -r -f -d 'Longest answer, in tokens; default: what the context holds'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l stop -r -f -d 'Text that ends the answer; may be given several times'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l think -l no-think -d 'Let a model that can think do so, or not; default: its way'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -l overwrite -d 'Replace an output file that is there'
complete -c chatcli -n '__chatcli_at "chatcli batch"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli tokens"' -s m -l model -r -a '(__chatcli_list models; __fish_complete_directories)' -d 'Hub id, alias or folder; default: the configured model'
complete -c chatcli -n '__chatcli_at "chatcli tokens"' -l chat -d 'Count the prompt that the text becomes in a chat'
complete -c chatcli -n '__chatcli_at "chatcli tokens"' -l ids -d 'Print the token ids instead of their number'
complete -c chatcli -n '__chatcli_at "chatcli tokens"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli completion"' -a 'bash zsh fish powershell'
complete -c chatcli -n '__chatcli_at "chatcli completion"' -l install -d 'Put the script where the shell finds it'
complete -c chatcli -n '__chatcli_at "chatcli completion"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a show -d 'Print a whole conversation'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a search -d 'Find conversations by what was said in them, newest first, with a line of the message'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a export -d 'Write a conversation, or all, as Markdown, JSON, JSON Lines or an HTML page'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a import -d 'Take in conversations: chatcli\'s own JSON, ShareGPT, OpenAI messages, as JSON or JSON Lines'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a rm -d 'Remove conversations, with all their branches'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a prune -d 'Remove conversations in which nothing was said for a time'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a title -d 'Give a conversation another title'
complete -c chatcli -n '__chatcli_at "chatcli history"' -a path -d 'Print where the database is'
complete -c chatcli -n '__chatcli_at "chatcli history"' -s n -l limit -r -f -d 'How many conversations to list'
complete -c chatcli -n '__chatcli_at "chatcli history"' -l json -d 'Print JSON'
complete -c chatcli -n '__chatcli_at "chatcli history"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history show"' -k -a '(__chatcli_list conversations)'
complete -c chatcli -n '__chatcli_at "chatcli history show"' -l json -d 'Print JSON'
complete -c chatcli -n '__chatcli_at "chatcli history show"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history search"' -s n -l limit -r -f -d 'How many conversations to list'
complete -c chatcli -n '__chatcli_at "chatcli history search"' -l json -d 'Print JSON'
complete -c chatcli -n '__chatcli_at "chatcli history search"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history export"' -k -a '(__chatcli_list conversations)'
complete -c chatcli -n '__chatcli_at "chatcli history export"' -l all -d 'All conversations, the oldest first'
complete -c chatcli -n '__chatcli_at "chatcli history export"' -s f -l format -r -a 'md json jsonl html' -d 'Default: by OUTPUT\'s ending, else md'
complete -c chatcli -n '__chatcli_at "chatcli history export"' -s o -l output -r -F -d 'File to write, whole or not at all; default: standard output'
complete -c chatcli -n '__chatcli_at "chatcli history export"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history import"' -F
complete -c chatcli -n '__chatcli_at "chatcli history import"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history rm"' -k -a '(__chatcli_list conversations)'
complete -c chatcli -n '__chatcli_at "chatcli history rm"' -s y -l yes -d 'Do not ask'
complete -c chatcli -n '__chatcli_at "chatcli history rm"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history prune"' -l older-than -r -f -d 'Age of the last message: 12h, 90d, 8w, 1y'
complete -c chatcli -n '__chatcli_at "chatcli history prune"' -l dry-run -d 'Only list what would be removed'
complete -c chatcli -n '__chatcli_at "chatcli history prune"' -s y -l yes -d 'Do not ask'
complete -c chatcli -n '__chatcli_at "chatcli history prune"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history title"' -k -a '(__chatcli_list conversations)'
complete -c chatcli -n '__chatcli_at "chatcli history title"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli history path"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli templates"' -a show -d 'Print a template as it stands, to copy and change'
complete -c chatcli -n '__chatcli_at "chatcli templates"' -l json -d 'Print a JSON list'
complete -c chatcli -n '__chatcli_at "chatcli templates"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli templates show"' -k -a '(__chatcli_list templates)'
complete -c chatcli -n '__chatcli_at "chatcli templates show"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli config"' -a path -d 'Print where config.toml is'
complete -c chatcli -n '__chatcli_at "chatcli config"' -a show -d 'Print every setting, its value and where it comes from'
complete -c chatcli -n '__chatcli_at "chatcli config"' -a set -d 'Write a setting to config.toml'
complete -c chatcli -n '__chatcli_at "chatcli config"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli config path"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli config show"' -s h -l help -d 'Show this message and exit'
complete -c chatcli -n '__chatcli_at "chatcli config set"' -a 'model system temperature top_p top_k min_p repetition_penalty seed max_tokens stop overflow think reasoning_effort'
complete -c chatcli -n '__chatcli_at "chatcli config set"' -s h -l help -d 'Show this message and exit'
