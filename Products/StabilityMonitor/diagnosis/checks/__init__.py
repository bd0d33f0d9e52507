"""The checks of the living site: one table; each theme is a module, and `runner` asks them.

A check is a small class with a question and an answer, see `check.ICheck`.
"""

from __future__ import annotations

from . import breadcrumbs
from . import clocks
from . import databases
from . import interpreter
from . import limits
from . import memory
from . import outputs
from . import rotation
from . import signals
from . import software
from . import supervision
from . import switches
from .check import ICheck
from .runner import Background
from .runner import Progress
from .runner import Results
from .runner import run

__all__ = ('CHECKS', 'Background', 'ICheck', 'Progress', 'Results', 'run')

#: Every check, in the order in which they are asked.
CHECKS = tuple(
    check()
    for check in (
        interpreter.ThreadStacks,
        interpreter.RecursionLimit,
        interpreter.EndOfLife,
        interpreter.Build,
        memory.Limit,
        memory.Collector,
        memory.Allocator,
        memory.OomReporting,
        limits.Descriptors,
        limits.CoreFiles,
        outputs.StandardOutputs,
        outputs.EventLog,
        breadcrumbs.Place,
        breadcrumbs.Room,
        signals.FaultHandler,
        signals.KillingSignals,
        rotation.LogRotation,
        supervision.Supervisor,
        switches.ZopeSwitches,
        switches.PythonSwitches,
        switches.LateVariables,
        databases.Adapters,
        databases.ConnectionPools,
        databases.DurableStorage,
        clocks.Jumps,
        clocks.DatabaseAhead,
        software.Family,
        software.OptionalLibraries,
        software.CompiledModules,
        software.ReplacedLibraries,
    )
)
