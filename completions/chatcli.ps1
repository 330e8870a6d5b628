# PowerShell completion for chatcli, made by `chatcli completion powershell`.

$ChatcliCommands = @{
    'chatcli' = @{ Commands = 'run ask batch serve pull replay tokens ps stop bench completion models adapters history templates servers config'; Flags = '--debug --version -h --help'; Argument = ''; Values = @{  } }
    'chatcli run' = @{ Commands = ''; Flags = '-p --prompt -a --attach --server -s --system -c --continue --id --no-history --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --overflow --think --no-think --reasoning-effort --plain --no-plain --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --keep-alive --revision --subfolder --trust-remote-code -h --help'; Argument = 'list models'; Values = @{ '-p' = 'any'; '--prompt' = 'any'; '-a' = 'files'; '--attach' = 'files'; '--server' = 'list servers'; '-s' = 'any'; '--system' = 'any'; '--id' = 'list conversations'; '--temperature' = 'any'; '--top-p' = 'any'; '--top-k' = 'any'; '--min-p' = 'any'; '--repetition-penalty' = 'any'; '--seed' = 'any'; '--max-tokens' = 'any'; '--stop' = 'any'; '--overflow' = 'stop drop-oldest'; '--reasoning-effort' = 'low medium high'; '--adapter' = 'list adapters'; '--dtype' = 'auto float32 bfloat16 float16'; '--quant' = 'auto none int8 int4 fp8'; '--fit' = 'auto strict'; '--context' = 'any'; '--device' = 'any'; '--devices' = 'any'; '--max-memory' = 'any'; '--lora' = 'any'; '--draft' = 'list models'; '--keep-alive' = 'any'; '--revision' = 'any'; '--subfolder' = 'any' } }
    'chatcli ask' = @{ Commands = ''; Flags = '-f --file -a --attach -t --template --truncate -o --output --json --jsonl -q --quiet --no-stream -n --answers --logprobs --schema --regex --choice --require-complete -m --model --server -s --system -c --continue --id --no-history --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --overflow --think --no-think --reasoning-effort --plain --no-plain --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --keep-alive --revision --subfolder --trust-remote-code -h --help'; Argument = ''; Values = @{ '-f' = 'files'; '--file' = 'files'; '-a' = 'files'; '--attach' = 'files'; '-t' = 'list templates'; '--template' = 'list templates'; '--truncate' = 'head tail middle'; '-o' = 'files'; '--output' = 'files'; '-n' = 'any'; '--answers' = 'any'; '--logprobs' = 'any'; '--schema' = 'files'; '--regex' = 'any'; '--choice' = 'any'; '-m' = 'list models'; '--model' = 'list models'; '--server' = 'list servers'; '-s' = 'any'; '--system' = 'any'; '--id' = 'list conversations'; '--temperature' = 'any'; '--top-p' = 'any'; '--top-k' = 'any'; '--min-p' = 'any'; '--repetition-penalty' = 'any'; '--seed' = 'any'; '--max-tokens' = 'any'; '--stop' = 'any'; '--overflow' = 'stop drop-oldest'; '--reasoning-effort' = 'low medium high'; '--adapter' = 'list adapters'; '--dtype' = 'auto float32 bfloat16 float16'; '--quant' = 'auto none int8 int4 fp8'; '--fit' = 'auto strict'; '--context' = 'any'; '--device' = 'any'; '--devices' = 'any'; '--max-memory' = 'any'; '--lora' = 'any'; '--draft' = 'list models'; '--keep-alive' = 'any'; '--revision' = 'any'; '--subfolder' = 'any' } }
    'chatcli batch' = @{ Commands = ''; Flags = '-o --output --overwrite -m --model --server -s --system --temperature --top-p --top-k --min-p --repetition-penalty --seed --max-tokens --stop --think --no-think --reasoning-effort --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --revision --subfolder -h --help'; Argument = 'files'; Values = @{ '-o' = 'files'; '--output' = 'files'; '-m' = 'list models'; '--model' = 'list models'; '--server' = 'list servers'; '-s' = 'any'; '--system' = 'any'; '--temperature' = 'any'; '--top-p' = 'any'; '--top-k' = 'any'; '--min-p' = 'any'; '--repetition-penalty' = 'any'; '--seed' = 'any'; '--max-tokens' = 'any'; '--stop' = 'any'; '--reasoning-effort' = 'low medium high'; '--adapter' = 'list adapters'; '--dtype' = 'auto float32 bfloat16 float16'; '--quant' = 'auto none int8 int4 fp8'; '--fit' = 'auto strict'; '--context' = 'any'; '--device' = 'any'; '--devices' = 'any'; '--max-memory' = 'any'; '--lora' = 'any'; '--draft' = 'list models'; '--revision' = 'any'; '--subfolder' = 'any' } }
    'chatcli serve' = @{ Commands = ''; Flags = '--host --port --socket --api-key-file --api-key --parallel --queue --replicas --ray-address --engine --time-limit --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --revision --subfolder --trust-remote-code -h --help'; Argument = 'list models'; Values = @{ '--host' = 'any'; '--port' = 'any'; '--socket' = 'files'; '--api-key-file' = 'files'; '--api-key' = 'any'; '--parallel' = 'any'; '--queue' = 'any'; '--replicas' = 'any'; '--ray-address' = 'any'; '--engine' = 'local vllm'; '--time-limit' = 'any'; '--adapter' = 'list adapters'; '--dtype' = 'auto float32 bfloat16 float16'; '--quant' = 'auto none int8 int4 fp8'; '--fit' = 'auto strict'; '--context' = 'any'; '--device' = 'any'; '--devices' = 'any'; '--max-memory' = 'any'; '--lora' = 'any'; '--draft' = 'list models'; '--revision' = 'any'; '--subfolder' = 'any' } }
    'chatcli pull' = @{ Commands = ''; Flags = '--revision --source --force -h --help'; Argument = 'list models'; Values = @{ '--revision' = 'any'; '--source' = 'hf modelscope' } }
    'chatcli replay' = @{ Commands = ''; Flags = '-h --help'; Argument = 'list conversations'; Values = @{  } }
    'chatcli tokens' = @{ Commands = ''; Flags = '-m --model --chat --ids --revision --trust-remote-code -h --help'; Argument = ''; Values = @{ '-m' = 'list models'; '--model' = 'list models'; '--revision' = 'any' } }
    'chatcli ps' = @{ Commands = ''; Flags = '--json -h --help'; Argument = ''; Values = @{  } }
    'chatcli stop' = @{ Commands = ''; Flags = '-h --help'; Argument = 'list models'; Values = @{  } }
    'chatcli bench' = @{ Commands = ''; Flags = '--prompt --tokens --rounds --json --adapter --dtype --quant --fit --context --device --devices --max-memory --lora --draft --compile --no-compile --revision --subfolder -h --help'; Argument = 'list models'; Values = @{ '--prompt' = 'any'; '--tokens' = 'any'; '--rounds' = 'any'; '--adapter' = 'list adapters'; '--dtype' = 'auto float32 bfloat16 float16'; '--quant' = 'auto none int8 int4 fp8'; '--fit' = 'auto strict'; '--context' = 'any'; '--device' = 'any'; '--devices' = 'any'; '--max-memory' = 'any'; '--lora' = 'any'; '--draft' = 'list models'; '--revision' = 'any'; '--subfolder' = 'any' } }
    'chatcli completion' = @{ Commands = ''; Flags = '--install -h --help'; Argument = 'bash zsh fish powershell'; Values = @{  } }
    'chatcli models' = @{ Commands = 'show plan pull rm alias'; Flags = '--json -h --help'; Argument = ''; Values = @{  } }
    'chatcli models show' = @{ Commands = ''; Flags = '--json -h --help'; Argument = 'list models'; Values = @{  } }
    'chatcli models plan' = @{ Commands = ''; Flags = '--context --dtype --quant --fit --device --devices --max-memory --revision --subfolder --json -h --help'; Argument = 'list models'; Values = @{ '--context' = 'any'; '--dtype' = 'auto float32 bfloat16 float16'; '--quant' = 'auto none int8 int4 fp8'; '--fit' = 'auto strict'; '--device' = 'any'; '--devices' = 'any'; '--max-memory' = 'any'; '--revision' = 'any'; '--subfolder' = 'any' } }
    'chatcli models pull' = @{ Commands = ''; Flags = '--revision --source --force -h --help'; Argument = 'list models'; Values = @{ '--revision' = 'any'; '--source' = 'hf modelscope' } }
    'chatcli models rm' = @{ Commands = ''; Flags = '--revision -y --yes -h --help'; Argument = 'list models'; Values = @{ '--revision' = 'any' } }
    'chatcli models alias' = @{ Commands = ''; Flags = '--remove -h --help'; Argument = ''; Values = @{  } }
    'chatcli adapters' = @{ Commands = 'show match render'; Flags = '--json -h --help'; Argument = ''; Values = @{  } }
    'chatcli adapters show' = @{ Commands = ''; Flags = '--json -h --help'; Argument = 'list adapters'; Values = @{  } }
    'chatcli adapters match' = @{ Commands = ''; Flags = '--json -h --help'; Argument = 'list models'; Values = @{  } }
    'chatcli adapters render' = @{ Commands = ''; Flags = '-h --help'; Argument = 'list adapters'; Values = @{  } }
    'chatcli history' = @{ Commands = 'show search export import rm prune title path'; Flags = '-n --limit --json -h --help'; Argument = ''; Values = @{ '-n' = 'any'; '--limit' = 'any' } }
    'chatcli history show' = @{ Commands = ''; Flags = '--json -h --help'; Argument = 'list conversations'; Values = @{  } }
    'chatcli history search' = @{ Commands = ''; Flags = '-n --limit --json -h --help'; Argument = ''; Values = @{ '-n' = 'any'; '--limit' = 'any' } }
    'chatcli history export' = @{ Commands = ''; Flags = '--all -f --format -o --output -h --help'; Argument = 'list conversations'; Values = @{ '-f' = 'md json jsonl html'; '--format' = 'md json jsonl html'; '-o' = 'files'; '--output' = 'files' } }
    'chatcli history import' = @{ Commands = ''; Flags = '-h --help'; Argument = 'files'; Values = @{  } }
    'chatcli history rm' = @{ Commands = ''; Flags = '-y --yes -h --help'; Argument = 'list conversations'; Values = @{  } }
    'chatcli history prune' = @{ Commands = ''; Flags = '--older-than --dry-run -y --yes -h --help'; Argument = ''; Values = @{ '--older-than' = 'any' } }
    'chatcli history title' = @{ Commands = ''; Flags = '-h --help'; Argument = 'list conversations'; Values = @{  } }
    'chatcli history path' = @{ Commands = ''; Flags = '-h --help'; Argument = ''; Values = @{  } }
    'chatcli templates' = @{ Commands = 'show'; Flags = '--json -h --help'; Argument = ''; Values = @{  } }
    'chatcli templates show' = @{ Commands = ''; Flags = '-h --help'; Argument = 'list templates'; Values = @{  } }
    'chatcli servers' = @{ Commands = 'add rm test'; Flags = '--json -h --help'; Argument = ''; Values = @{  } }
    'chatcli servers add' = @{ Commands = ''; Flags = '-m --model --key-from --kind --thinks --plain-http -h --help'; Argument = ''; Values = @{ '-m' = 'list models'; '--model' = 'list models'; '--key-from' = 'any'; '--kind' = 'chatcli openai vllm vllm-guided sglang tgi llama.cpp ollama fastchat transformers openrouter deepseek mistral groq litellm lmstudio other' } }
    'chatcli servers rm' = @{ Commands = ''; Flags = '-h --help'; Argument = 'list servers'; Values = @{  } }
    'chatcli servers test' = @{ Commands = ''; Flags = '--all -h --help'; Argument = 'list servers'; Values = @{  } }
    'chatcli config' = @{ Commands = 'path show set unset'; Flags = '-h --help'; Argument = ''; Values = @{  } }
    'chatcli config path' = @{ Commands = ''; Flags = '-h --help'; Argument = ''; Values = @{  } }
    'chatcli config show' = @{ Commands = ''; Flags = '-h --help'; Argument = ''; Values = @{  } }
    'chatcli config set' = @{ Commands = ''; Flags = '-h --help'; Argument = 'model system server temperature top_p top_k min_p repetition_penalty seed max_tokens stop overflow think reasoning_effort history plain editing_mode adapter dtype quant fit context device devices max_memory lora draft compile keep_alive model_folders'; Values = @{  } }
    'chatcli config unset' = @{ Commands = ''; Flags = '-h --help'; Argument = 'model system server temperature top_p top_k min_p repetition_penalty seed max_tokens stop overflow think reasoning_effort history plain editing_mode adapter dtype quant fit context device devices max_memory lora draft compile keep_alive model_folders'; Values = @{  } }
}

function Get-ChatcliList([string]$Name) {
    $places = @(
        if ($env:CHATCLI_HOME) { Join-Path $env:CHATCLI_HOME 'state' }
        if ($env:LOCALAPPDATA) { Join-Path $env:LOCALAPPDATA 'chatcli' }
        if ($env:XDG_STATE_HOME) { Join-Path $env:XDG_STATE_HOME 'chatcli' }
        if ($HOME) { Join-Path $HOME '.local/state/chatcli' }
    )
    foreach ($place in $places) {
        $file = Join-Path $place "completion/$Name"
        if (Test-Path $file) { return Get-Content -Encoding UTF8 $file | ForEach-Object { ($_ -split "`t")[0] } }
    }
}

Register-ArgumentCompleter -Native -CommandName chatcli -ScriptBlock {
    param($word, $line, $cursor)
    $route = 'chatcli'
    $spoken = @($line.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object { "$_" })
    foreach ($each in $spoken | Select-Object -Skip 1) {
        if ($ChatcliCommands.ContainsKey("$route $each")) { $route = "$route $each" }
    }
    $command = $ChatcliCommands[$route]
    $kind = if ($spoken.Count) { $command.Values[$spoken[-1]] }
    if (-not $kind) {
        if ($word -like '-*') { $kind = $command.Flags }
        elseif ($command.Commands) { $kind = $command.Commands }
        else { $kind = $command.Argument }
    }
    $found = if ($kind -like 'list *') { Get-ChatcliList $kind.Substring(5) }
        elseif ($kind -and $kind -notin 'any', 'files') { $kind -split ' ' }
    $found | Where-Object { $_ -like "$word*" } | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
    }
}
