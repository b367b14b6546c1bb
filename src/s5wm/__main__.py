"""``python -m s5wm``."""

from s5wm.cli import main

main()
