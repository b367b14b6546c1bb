"""How long and how finely a training runs."""

from dataclasses import dataclass, field, fields

from s5wm.training.curriculum import CurriculumConfig

UNLIMITED = 10**12
"""Environment steps where a budget in minutes alone counts."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Counts of one training; everything that happens on the host happens between two chunks.

    An iteration collects ``rollout_length`` steps of every environment and learns from them; a chunk is
    ``iterations_per_chunk`` of them in one call of the compiled program.  The last chunk is cut, so that training ends
    with the first iteration that reaches ``env_steps`` or, if given, ``minutes``.
    """

    num_envs: int = 64
    rollout_length: int = 16  # steps of each environment per iteration
    iterations_per_chunk: int = 16
    env_steps: int = 1_000_000  # in total
    minutes: float | None = None  # on the clock, over all resumptions, compiling and evaluating included
    eval_every: int = 100_000  # env steps
    eval_episodes: int = 32
    checkpoint_every: int = 200_000  # env steps
    keep: int = 3  # checkpoints (2 or more), besides the best policy
    decay_from: float = 1.0  # share of the budget from which on all learning rates fall linearly; 1: never
    decay_to: float = 0.1  # of the rates, at the end of the budget
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    # Log shares of the time (``time/...``); compiles collection and the world model a second time, each alone.
    time_pieces: bool = field(default=False, metadata={"since": "timing on request"})

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
                raise ValueError(f"train.{f.name} is {value}; it must be positive")
        if self.keep < 2:
            raise ValueError(
                f"train.keep is {self.keep}; keep 2 checkpoints or more, so that one may be damaged"
            )
        for name in ("decay_from", "decay_to"):
            if getattr(self, name) > 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it is a share: choose it in (0, 1]")

    def rate_schedule(self, share: float) -> float:
        """Factor of all learning rates once so much of the present budget is used.

        A run that goes on with a larger budget has used a smaller share of it: its rates rise again to what that
        budget gives at this place, as if it had been the first one.
        """
        if share <= self.decay_from:
            return 1.0
        return 1.0 - (1.0 - self.decay_to) * (share - self.decay_from) / (1.0 - self.decay_from)

    @property
    def iteration_steps(self) -> int:
        """Environment steps per iteration."""
        return self.num_envs * self.rollout_length

    @property
    def chunk_steps(self) -> int:
        """Environment steps of a whole chunk."""
        return self.iteration_steps * self.iterations_per_chunk
