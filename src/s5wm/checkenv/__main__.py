"""``python -m s5wm.checkenv QUESTION``: the child of ``s5wm check-env``."""

import sys

from s5wm.checkenv.child import main

if __name__ == "__main__":
    sys.exit(main())
