"""Watches how deep the stacks of the serving threads and of MainThread have been, for the black
box.

A serving thread tells once where its stack lies (`enter`); from then on the heartbeat looks at the
pages of the stack.  When the high-water mark rises between two looks at the same request, that
request made it rise.
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
    """`recorder` gets the marks, `findings` the stacks that were nearly full."""

    def __init__(
        self,
        recorder: Recorder,
        findings: Findings,
        gauge: StackGauge | None = None,
    ) -> None:
        self.recorder = recorder
        self.findings = findings
        self.gauge = gauge or StackGauge()
        # By slot: the stack, its high-water mark, the number of the request at the last look.
        self._stacks: dict[int, Stack | None] = {}
        self._used: dict[int, int] = {}
        self._served: dict[int, int] = {}
        self._told = INFO
        self._main = self.gauge.main()
        self._main_used = 0
        if self._main:
            recorder.set_word('main_stack', self._main.size)

    def enter(self, index: int) -> Stack | None:
        """Called once in each serving thread: its Stack, or None where the system does not tell."""
        stack = self.gauge.own()
        self._used[index] = 0
        self._stacks[index] = stack
        if stack:
            self.recorder.stack(index, stack.size, stack.guard)
        else:
            self.recorder.stack(index, 0, 0)
        return stack

    def look(self) -> None:
        """Called in each round of the heartbeat."""
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
                request = slot.number  # again: another one may have begun during the look
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
        if found.severity.rank > self._told.rank:
            self._told = found.severity
            self.findings.drop(found.id)  # one finding for all threads: the worst
            self.findings.add(found.id, found.title, found.detail, found.action, found.severity)

    def measured(self, states: Collection[ThreadState]) -> tuple[ThreadState, ...]:
        """The states with size and high-water mark of their stacks."""
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
