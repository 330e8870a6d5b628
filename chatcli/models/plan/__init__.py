"""Where a model goes and in which precision: decided from numbers, before anything is loaded.

Pure functions of config.json, the tensors' headers and the free memory. They ask no machine and load nothing:
`models.machine` and the runtime measure the devices, the runtime carries the plan out.
"""

from chatcli.models.plan.choose import Survey, plan, survey
from chatcli.models.plan.talk import cache_bytes, kv_bytes_per_token, work_bytes
from chatcli.models.plan.values import Device, LoadPlan, Option, amount
from chatcli.models.plan.weighing import weigh

__all__ = [
    "Device",
    "LoadPlan",
    "Option",
    "Survey",
    "amount",
    "cache_bytes",
    "kv_bytes_per_token",
    "plan",
    "survey",
    "weigh",
    "work_bytes",
]
