"""The engine of a server's model, from what the command line says of it.

The wiring of profiles, keys and the engine; what is about models of this machine has no meaning here and is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chatcli.config import OF_LOADING, Config
from chatcli.engines.deferred import DeferredEngine, Report
from chatcli.environment import Environment
from chatcli.errors import UsageError
from chatcli.generation import Engine
from chatcli.servers.profiles import find_server, model_at

if TYPE_CHECKING:
    from chatcli.load_request import LoadRequest


def open_at_server(
    model: str, at: str, config: Config, environment: Environment, request: LoadRequest
) -> DeferredEngine:
    """The engine of `model`, or of the only one, at the server that a person calls `at`.

    Raises:
        UsageError: there is no such server, or the command line says how a model is loaded.
    """
    server = find_server(at, config.servers)
    said = [key for key in OF_LOADING if config.said_by_flag(key)]
    said += [key for key in ("revision", "subfolder") if getattr(request, key)]
    if said:
        flag = said[0].replace("_", "-")
        raise UsageError(f"--{flag} is for models of this machine, and {server.label} is a server.")

    def open_it(report: Report) -> Engine:
        from chatcli.engines.reach import open_remote

        return open_remote(server, model, environment.variables, report)

    return DeferredEngine(open_it, name=model_at(model or server.model, server.name))
