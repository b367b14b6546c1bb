"""Instruments: how well a world-model agent foresees real flights."""

from s5wm.diagnose.diagnosis import Diagnosis as Diagnosis
from s5wm.diagnose.diagnosis import report as report
