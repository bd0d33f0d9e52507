"""Records how deep the stacks of the workers and of MainThread have been, in the black box.

Each worker reads once where its stack is (`enter`).  From then on the heartbeat looks at the memory
pages of the stack.  If the high-water mark rises between two looks while the worker serves the same
request, this request has raised it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..model.severities import INFO
from ..model.threadstates import ThreadState
from ..system.stackdepth import Stack
from ..system.stackdepth import StackGauge
from ..system.stackdepth import headroom
from .partguard import Findings
from .recorder import Recorder


class StackWatch:
    """Writes the high-water marks into `recorder`, and stacks that were nearly full into
    `findings`.
    """

    def __init__(
        self,
        recorder: Recorder,
        findings: Findings,
        gauge: StackGauge | None = None,
    ) -> None:
        self.recorder = recorder
        self.findings = findings
        self.gauge = gauge or StackGauge()
        # By slot: the stack, its high-water mark, and the number of the request at the last look.
        self._stacks: dict[int, Stack | None] = {}
        self._used: dict[int, int] = {}
        self._served: dict[int, int] = {}
        self._worst = INFO
        self._main = self.gauge.main()
        self._main_used = 0
        if self._main:
            recorder.set_word('main_stack', self._main.size)

    def enter(self, index: int) -> Stack | None:
        """Return the Stack of this worker, or None if the system does not report it.

        Called once, in the worker itself.
        """
        stack = self.gauge.own()
        self._used[index] = 0
        self._stacks[index] = stack
        if stack:
            self.recorder.stack(index, stack.size, stack.guard)
        else:
            self.recorder.stack(index, 0, 0)
        return stack

    def look(self) -> None:
        """Read and record the high-water marks.  Called in each round of the heartbeat."""
        for index, slot in list(self.recorder.slots.items()):
            before = self._served.get(index)
            self._served[index] = slot.number
            stack = self._stacks.get(index)
            if stack is None:
                continue
            known = self._used[index]
            used = self._high_water_mark(stack, known)
            if used > known:
                self._used[index] = used
                request = slot.number  # read again: another request may have begun meanwhile
                if request != before:
                    request = 0
                self.recorder.stack_used(index, used, request)
                self._judge(stack, used, slot.thread.name)
        if self._main:
            used = self._high_water_mark(self._main, self._main_used)
            if used > self._main_used:
                self._main_used = used
                self.recorder.set_word('main_stack_used', used)
                self._judge(self._main, used, 'MainThread', main=True)

    def _high_water_mark(self, stack: Stack, known: int) -> int:
        if known:
            return self.gauge.rise(stack, known)
        return self.gauge.used(stack)

    def _judge(self, stack: Stack, used: int, name: str, main: bool = False) -> None:
        found = headroom(stack.size, used, name, self.gauge.granule, main)
        if found.severity.rank > self._worst.rank:
            self._worst = found.severity
            self.findings.drop(found.id)  # there is one finding for all threads: the worst
            self.findings.add(found.id, found.title, found.detail, found.action, found.severity)

    def measured(self, states: Collection[ThreadState]) -> tuple[ThreadState, ...]:
        """Return the states with the sizes and high-water marks of their stacks added."""
        threads = {state.native_id: state.ident for state in states if state.native_id}
        stacks = self.gauge.of_threads(threads)
        for index, slot in list(self.recorder.slots.items()):
            stack = self._stacks.get(index)
            if stack:
                stacks[slot.native_id] = stack
        measured = []
        for state in states:
            stack = stacks.get(state.native_id)
            if stack:
                state = replace(
                    state,
                    stack_size=stack.size,
                    stack_used=self.gauge.used(stack),
                )
            measured.append(state)
        return tuple(measured)
