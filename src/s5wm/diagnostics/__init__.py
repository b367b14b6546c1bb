"""Diagnostics: prediction errors of a world-model agent on real flights."""

from s5wm.diagnostics.diagnosis import Diagnosis as Diagnosis
from s5wm.diagnostics.diagnosis import report as report
