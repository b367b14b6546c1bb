"""One page in the browser: an episode, and what a world model predicts at any moment of it."""
