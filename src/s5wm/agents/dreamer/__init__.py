"""The world-model agent: replay, world model, and an actor-critic that learns inside it."""
