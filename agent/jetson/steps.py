"""The least step of each Jetson rail's power, for sources that do not tell the shunt resistor."""

from __future__ import annotations

# In W. An INA3221 counts the shunt's voltage in steps of 40 uV, so a step is 40 uV / shunt resistance * bus voltage.
# Source: TI INA3221 datasheet (SBOS576), "Shunt Voltage Registers"; shunts from device trees, and checked against the
# distances between readings of boards. Where modules share a name, the coarser step that counts in a total stands.
_STEPS_W = {
    "VDD_GPU_SOC": 0.4,  # AGX Orin: 2 mOhm at 20 V
    "VDD_CPU_CV": 0.4,
    "VIN_SYS_5V0": 0.1,  # AGX Orin and Thor: 2 mOhm at 5 V
    "VDDQ_VDD2_1V8AO": 0.1,
    "VDD_GPU": 0.4,  # Thor
    "VDD_CPU_SOC_MSS": 0.4,
    "VDD_IN": 0.04,  # Xavier NX, Orin NX, Orin Nano: 5 mOhm at 5 V
    "VDD_CPU_GPU_CV": 0.04,
    "VDD_SOC": 0.04,
    "POM_5V_IN": 0.04,  # Nano: 5 mOhm at 5 V
    "POM_5V_GPU": 0.04,
    "POM_5V_CPU": 0.04,
    "GPU": 0.16,  # AGX Xavier: 5 mOhm at 19 V
    "CPU": 0.16,
    "SOC": 0.16,
    "CV": 0.16,
    "VDDRQ": 0.16,
    "SYS5V": 0.04,
}


def step_w(rail: str) -> float | None:
    """The step of this rail's power in watts; None where it is not known."""
    return _STEPS_W.get(rail)
