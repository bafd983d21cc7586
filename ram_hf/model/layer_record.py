"""What passes through the layers of one of CLIP's towers: hidden states and attentions, where they are asked for."""

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling


class LayerRecord:
    """Collects what one tower computes on its way, in one forward pass; nothing where nothing is asked for.

    Args:
        num_layers: of the tower.
        hidden_states: whether to keep the states before the first layer and behind each, or which of them, by their
            places in that list.
        attentions: whether to keep the attention of each layer.
    """

    def __init__(
        self, num_layers: int = 0, *, hidden_states: bool | int | Sequence[int] = False, attentions: bool = False
    ) -> None:
        self.attentions = attentions
        places = range(num_layers + 1)
        if isinstance(hidden_states, bool):
            self._kept = set(places) if hidden_states else set()
        else:
            wanted = [hidden_states] if isinstance(hidden_states, int) else hidden_states
            self._kept = {places[place] for place in wanted if -len(places) <= place < len(places)}
        self._wants_states = hidden_states is not False
        self._states: list[Tensor | None] = []
        self._weights: list[Tensor] = []

    @property
    def is_wanted(self) -> bool:
        """Whether anything is asked for."""
        return self._wants_states or self.attentions

    def add(self, states: Tensor, weights: Tensor | None = None) -> None:
        """Keep what is asked for of a layer's output, or of what goes into the first layer."""
        self._states.append(states if len(self._states) in self._kept else None)
        if weights is not None:
            self._weights.append(weights)

    def output(self, last_hidden_state: Tensor, features: Tensor) -> BaseModelOutputWithPooling:
        """As the towers of `CLIPModel` give it, with the projected features where these have them."""
        return BaseModelOutputWithPooling(
            last_hidden_state=last_hidden_state,
            pooler_output=features,
            hidden_states=tuple(self._states) if self._wants_states else None,
            attentions=tuple(self._weights) if self.attentions else None,
        )


def record_of(
    config: PreTrainedConfig,
    tower: PreTrainedConfig,
    output_hidden_states: bool | int | Sequence[int] | None,
    output_attentions: bool | None,
) -> LayerRecord:
    """The record that a call asks for; what it leaves open, the tower's configuration or the whole model's says."""
    if output_hidden_states is None:
        output_hidden_states = tower.output_hidden_states or config.output_hidden_states or False
    if output_attentions is None:
        output_attentions = tower.output_attentions or config.output_attentions
    return LayerRecord(tower.num_hidden_layers, hidden_states=output_hidden_states, attentions=bool(output_attentions))


__all__ = ["LayerRecord", "record_of"]
