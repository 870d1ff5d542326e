"""What a board's power monitors show of known power: voltage and current apart, in steps, seldom, late and noisy.

An update is a function of its number and the seed alone, so a folder that is played and a test that computes see the
same values.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

from agent.simulated.boards import JITTER_S, LAG_S, PERIOD_S, Board, Rail
from agent.simulated.waveforms import Waveform

_VOLTAGE_SPREAD = 0.01  # a supply's tolerance: half-width
_DROOP_OHM = 0.01  # of supply and board
_RIPPLE_V = 0.003


class Shown(NamedTuple):
    """What one rail shows."""

    bus_mv: int
    current_ma: int
    shunt_uv: int
    power_uw: int  # the monitor's own product, where it has one

    @property
    def power_w(self) -> float:
        """As a reader of voltage and current computes it."""
        return self.bus_mv * self.current_ma * 1e-6


class Sensors:
    """The rails of a board that takes the power of `wave`; its second 0 is the first update's end, about."""

    def __init__(self, board: Board, wave: Waveform, seed: int, noise_share: float = 0.005) -> None:
        self._rails = board.rails
        self._wave = wave
        self._seed = seed
        self._noise_share = noise_share
        self._first_s = random.Random(seed).uniform(0, PERIOD_S)
        self._supplies_v = [
            rail.bus_v * (1 + self._drawn(-1, rail).uniform(-1, 1) * _VOLTAGE_SPREAD) for rail in board.rails
        ]

    def number_at(self, at_s: float) -> int:
        """The number of the last update that shows at a time."""
        number = math.floor((at_s - self._first_s - LAG_S) / PERIOD_S) + 1
        while self.shows_s(number) > at_s:
            number -= 1
        return number

    def shows_s(self, number: int) -> float:
        """When an update begins to show."""
        late_s = abs(random.Random(self._seed * 1_000_003 + number).gauss(0, JITTER_S))
        return self._first_s + number * PERIOD_S + LAG_S + min(late_s, PERIOD_S / 4)

    def shown(self, number: int) -> tuple[Shown, ...]:
        """What the rails show after an update, in the board's order."""
        end_s = self._first_s + number * PERIOD_S
        return tuple(
            self._rail(rail, supply_v, end_s, self._drawn(number, rail))
            for rail, supply_v in zip(self._rails, self._supplies_v, strict=True)
        )

    def _drawn(self, number: int, rail: Rail) -> random.Random:
        return random.Random(f"{self._seed}/{number}/{rail.label}")

    def _rail(self, rail: Rail, supply_v: float, end_s: float, rng: random.Random) -> Shown:
        """The channels of a monitor look one after the other, and the last of them is done at `end_s`."""
        chip = rail.chip
        until_s = end_s - (chip.channels - rail.channel) * chip.conversion_s
        module_w = self._wave.energy_j(until_s - chip.conversion_s, until_s) / chip.conversion_s
        power_w = rail.share * module_w + rail.base_w
        noisy_w = power_w * (1 + rng.gauss(0, self._noise_share))
        bus_v = supply_v - _DROOP_OHM * power_w / supply_v
        bus_steps = round((bus_v + rng.gauss(0, _RIPPLE_V)) / chip.bus_step_v)
        shunt_steps = round(noisy_w / bus_v * rail.shunt_ohm / chip.shunt_step_v)
        shunt_v, shown_v = shunt_steps * chip.shunt_step_v, bus_steps * chip.bus_step_v
        current_a = shunt_v / rail.shunt_ohm
        return Shown(
            round(shown_v * 1e3), round(current_a * 1e3), round(shunt_v * 1e6), round(shown_v * current_a * 1e6)
        )
