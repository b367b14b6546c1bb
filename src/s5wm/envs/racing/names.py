"""Names of the races, without JAX; ``envs.racing.tasks`` says what they stand for."""

RACES = ("race/split-s", "race/figure-8-state", "race/figure-8")

IMAGE_RACES = ("race/figure-8",)

GYM_IDS = {
    "s5wm/SplitS-v0": "race/split-s",
    "s5wm/Figure8State-v0": "race/figure-8-state",
    "s5wm/Figure8-v0": "race/figure-8",
}
