"""How freely samples are drawn from the distributions that a model predicts."""

from dataclasses import dataclass

from wavesynth.errors import UserError


@dataclass(frozen=True)
class Strategy:
    """The distribution that is drawn from, made from the model's own.

    temperature: above 0; less than 1 sharpens every distribution, more than 1 flattens it.
    top_k: draw from the k likeliest codes alone (of a mixture: from its k likeliest components).
    top_p: draw from the likeliest codes that hold this share of the mass (of a mixture: from the middle of each
        component that holds it; Holtzman et al., 2020, cut the tail in this way).

    >>> Strategy(temperature=0.9, top_p=0.95)
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature is {self.temperature}: it must be above 0 (1 draws from the model as it is)")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k is {self.top_k}: it must be at least 1, or left out")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}: it must be above 0 and at most 1, or left out")
