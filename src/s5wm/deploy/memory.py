"""The memory vector of a policy while its graph is made."""

from dataclasses import dataclass, field

import numpy as np

from s5wm.deploy.builder import Builder
from s5wm.deploy.graph import Slot, Value


@dataclass(eq=False)
class Memory:
    """Slots of these sizes, one after the other; every one is read once and written once."""

    builder: Builder
    sizes: dict[str, int]
    whole: Value = field(init=False)
    written: dict[str, Value] = field(default_factory=dict[str, Value])

    def __post_init__(self) -> None:
        self.whole = Value("h_in", (sum(self.sizes.values()),))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Name, start and size of each."""
        starts = np.cumsum([0, *self.sizes.values()])
        return tuple(
            Slot(name, int(start), self.sizes[name]) for name, start in zip(self.sizes, starts, strict=False)
        )

    def read(self, name: str) -> Value:
        """The slot before the step."""
        slot = next(slot for slot in self.slots if slot.name == name)
        return self.builder.slice(self.whole, slot.start, slot.size)

    def write(self, name: str, value: Value) -> None:
        """The slot after the step, of any shape of its size."""
        self.written[name] = value

    def collected(self) -> Value:
        """The whole vector after the step."""
        parts = [self.builder.reshape(self.written[name], (size,)) for name, size in self.sizes.items()]
        return self.builder.concat(*parts) if parts else self.whole
