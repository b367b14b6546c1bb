"""Pictures of runs.  Needs matplotlib and pillow; an MP4 of the lap also needs imageio-ffmpeg."""

from s5wm.plots.run import Absent as Absent
from s5wm.plots.run import draw_evaluation as draw_evaluation
from s5wm.plots.run import draw_imagined as draw_imagined
from s5wm.plots.run import draw_progress as draw_progress
from s5wm.plots.run import draw_run as draw_run
from s5wm.plots.run import plot_flight as plot_flight
from s5wm.plots.run import plot_run as plot_run
from s5wm.plots.run import plot_runs as plot_runs
