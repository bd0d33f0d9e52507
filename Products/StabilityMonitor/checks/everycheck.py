"""The table of checks.  Each topic has a module in this room, and `runner` runs the checks.

A check is a small class with a question and an answer, see `check.ICheck`.
"""

from __future__ import annotations

from . import breadcrumbs
from . import clocks
from . import corefiles
from . import databases
from . import endingsignals
from . import interpreter
from . import librarychecks
from . import limits
from . import memory
from . import outputs
from . import rotation
from . import sitewitnesses
from . import software
from . import supervision
from . import switches

#: Every check, in the order in which they run.
CHECKS = tuple(
    check()
    for check in (
        interpreter.ThreadStacks,
        interpreter.RecursionLimit,
        interpreter.EndOfLife,
        interpreter.Build,
        memory.Limit,
        memory.Growth,
        memory.Collector,
        memory.Allocator,
        memory.OomReporting,
        limits.Descriptors,
        corefiles.CoreFiles,
        outputs.StandardOutputs,
        outputs.EventLog,
        breadcrumbs.Place,
        breadcrumbs.Room,
        endingsignals.FaultHandler,
        endingsignals.StopSignal,
        endingsignals.KillingSignals,
        rotation.LogRotation,
        supervision.Supervisor,
        sitewitnesses.Witnesses,
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
        librarychecks.LibraryCopies,
    )
)
