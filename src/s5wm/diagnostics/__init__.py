"""Instruments: how well a world-model agent foresees real flights."""

from s5wm.diagnostics.diagnosis import Diagnosis as Diagnosis
from s5wm.diagnostics.diagnosis import report as report
