"""A step that is taken again and again, in a thread of its own, until it is told to end."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Periodic:
    """Takes `step` every `period_s`; one that fails is told to `failed`, and the next one comes all the same."""

    def __init__(
        self,
        step: Callable[[], None],
        failed: Callable[[Exception], None],
        *,
        name: str,
        period_s: float,
        patience_s: float,
        at_once: bool = False,
    ) -> None:
        """`patience_s`: how long `stop` waits for a step; `at_once`: the first comes before the first wait."""
        self._step = step
        self._failed = failed
        self._period_s = period_s
        self._patience_s = patience_s
        self._at_once = at_once
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is going on; one that was never started has ended."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(self._patience_s)

    def pause(self, seconds: float) -> bool:
        """Wait within a step; True: it is to end."""
        return self._stopping.wait(seconds)

    def _run(self) -> None:
        if self._at_once and not self._stopping.is_set():
            self._step_or_tell()
        while not self._stopping.wait(self._period_s):
            self._step_or_tell()

    def _step_or_tell(self) -> None:
        try:
            self._step()
        except Exception as error:  # noqa: BLE001 - what fails here must not end it for good
            self._failed(error)
