"""Published config.json keys, put into the names of the native class that computes. It knows no family."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_SAME: Mapping[str, str] = MappingProxyType({})


def renamed(config: Mapping[str, Any], names: Mapping[str, str] = _SAME, **fixed: Any) -> dict[str, Any]:
    """The same configuration under the native `names`; `fixed` are keys that the published file says otherwise.

    References to the repository's own code are left out, for nothing of it is run.
    """
    kept = {names.get(key, key): value for key, value in config.items() if key != "auto_map"}
    return {**kept, **fixed}


def rope(theta: float, **more: Any) -> dict[str, Any]:
    """Rotary positions as native configurations describe them; a `rope_scaling` table may be passed as `more`."""
    return {"rope_type": "default", "rope_theta": float(theta), **more}
