"""The completion script for PowerShell; knows the command tree and `Register-ArgumentCompleter`."""

from __future__ import annotations

from chatcli.cli.completions.tree import Command

_SCRIPT = r"""# PowerShell completion for chatcli, made by `chatcli completion powershell`.

$ChatcliCommands = @{
@COMMANDS@
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
"""


def script(root: Command) -> str:
    """The whole script for the tree below `root`. Where nothing is offered, PowerShell completes files itself."""
    return _SCRIPT.replace("@COMMANDS@", "\n".join(_entry(each) for each in root.walk()))


def _entry(command: Command) -> str:
    flags = " ".join(name for option in command.options for name in option.names)
    values = "; ".join(
        f"'{name}' = '{option.value.word or 'any'}'"
        for option in command.options
        if option.value
        for name in option.names
    )
    children = " ".join(child.name for child in command.children)
    return (
        f"    '{command.path}' = @{{ Commands = '{children}'; Flags = '{flags}'; "
        f"Argument = '{command.argument.word}'; Values = @{{ {values} }} }}"
    )
