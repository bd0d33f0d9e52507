"""Watches how deep the stacks of the serving threads and of the main thread have been, and tells
the black box.

A serving thread says once where its stack lies (`enter`); from then on the heartbeat looks at its
pages.  A mark that rose between two looks at the same request rose in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..model.records import Finding
from ..model.records import ThreadState
from ..system.stackdepth import Stack
from ..system.stackdepth import StackGauge
from ..system.stackdepth import headroom
from .partguard import Findings
from .recorder import Recorder


class StackWatch:
    """`recorder` gets the marks, `findings` the stacks that were nearly full."""

    def __init__(
        self, recorder: Recorder, findings: Findings, gauge: StackGauge | None = None
    ) -> None:
        self.recorder = recorder
        self.findings = findings
        self.gauge = gauge or StackGauge()
        # By index of the slot: the stack, its mark, the number of the request at the last look.
        self._stacks: dict[int, Stack | None] = {}
        self._used: dict[int, int] = {}
        self._served: dict[int, int] = {}
        self._told = 'info'
        self._main = self.gauge.main()
        self._main_used = 0
        if self._main:
            recorder.set_word('main_stack', self._main.size)

    def enter(self, index: int) -> Stack | None:
        """In a serving thread, once: its Stack, or None where the system does not tell."""
        stack = self.gauge.own()
        self._stacks[index] = stack
        self._used[index] = 0
        if stack:
            self.recorder.stack(index, stack.size, stack.guard)
        else:
            self.recorder.stack(index, 0, 0)
        return stack

    def look(self) -> None:
        """At each round of the heartbeat."""
        for index, slot in list(self.recorder.slots.items()):
            stack = self._stacks.get(index)
            before, self._served[index] = self._served.get(index), slot.number
            if stack and self._has_risen(index, stack):
                self.recorder.stack_used(
                    index, self._used[index], slot.number if slot.number == before else 0
                )
                self._judge(stack, self._used[index], slot.thread.name)
        if self._main:
            self._look_at_main(self._main)

    def _has_risen(self, index: int, stack: Stack) -> bool:
        before, self._used[index] = self._used[index], self._mark(stack, self._used[index])
        return self._used[index] > before

    def _mark(self, stack: Stack, known: int) -> int:
        return self.gauge.rise(stack, known) if known else self.gauge.used(stack)

    def _look_at_main(self, stack: Stack) -> None:
        used = self._mark(stack, self._main_used)
        if used > self._main_used:
            self._main_used = used
            self.recorder.set_word('main_stack_used', used)
            self._judge(stack, used, 'MainThread', main=True)

    def _judge(self, stack: Stack, used: int, name: str, main: bool = False) -> None:
        found = headroom(stack.size, used, name, self.gauge.granule, main)
        if Finding.SEVERITIES.index(found.severity) > Finding.SEVERITIES.index(self._told):
            self._told = found.severity
            self.findings.drop(found.id)  # one finding for all threads: the worst
            self.findings.add(found.id, found.title, found.detail, found.action, found.severity)

    def measured(self, states: Iterable[ThreadState]) -> tuple[ThreadState, ...]:
        """The states with size and high-water mark of their stacks."""
        stacks = self.gauge.of_threads(
            {state.native_id: state.ident for state in states if state.native_id}
        )
        for index, slot in list(self.recorder.slots.items()):
            stack = self._stacks.get(index)
            if stack:
                stacks[slot.native_id] = stack
        return tuple(self._with(state, stacks.get(state.native_id)) for state in states)

    def _with(self, state: ThreadState, stack: Stack | None) -> ThreadState:
        if stack is None:
            return state
        return replace(state, stack_size=stack.size, stack_used=self.gauge.used(stack))
