"""Networks for one sequence; the resettable S5 is usable on its own."""

from s5wm.nn.s5 import S5 as S5
from s5wm.nn.s5 import S5Config as S5Config
