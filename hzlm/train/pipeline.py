"""The layers of the model as DeepSpeed's pipeline module, cut into stages."""

from collections.abc import Iterator, Sequence
from typing import Any

from deepspeed.pipe import DualPipeVModule, LayerSpec, PipelineModule, TiedLayerSpec
from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
from torch import nn
from torch.distributed import ProcessGroup

from hzlm.config import RunConfig
from hzlm.model.embedding import TokenEmbedding
from hzlm.model.encoder_decoder import Layer, plan_layers
from hzlm.model.initial import initialize
from hzlm.model.losses import TrainingLoss
from hzlm.model.setup import Setup
from hzlm.model.stages import cut_stages
from hzlm.parallel.mesh import Mesh
from hzlm.parallel.sharding import sharding_of
from hzlm.vocabulary import Vocabulary


class Pipeline(PipelineModule):
    """This rank's layers: of one stage, or with DualPipeV of two.

    The token table is the first layer and, tied, the last one. Where a rank sees only a part of the rows outside
    attention and feed-forward, the gradients of what is not sharded are parts too: the engine sums them with those
    of the tied table.
    """

    def __init__(self, plan: Sequence[Layer], bounds: Sequence[int], mesh: Mesh, loss: TrainingLoss):
        """plan: of `plan_layers`. bounds: of `cut_stages`."""
        self._bounds = list(bounds)
        self._plan = list(plan)
        self._mesh = mesh
        tokens, *others = plan
        table = (TokenEmbedding, *tokens.arguments)
        super().__init__(
            layers=[
                TiedLayerSpec(tokens.name, *table),
                *(LayerSpec(layer.module, *layer.arguments) for layer in others),
                TiedLayerSpec(tokens.name, *table, forward_fn=TokenEmbedding.project),
            ],
            topology=PipeModelDataParallelTopology(mesh.pipe.size, mesh.tensor.size, mesh.data.size),
            loss_fn=loss,
        )

    def initialize(self, seed: int) -> None:
        """Fills every parameter from (seed, name), and tells DeepSpeed which ones are parts of a logical tensor."""
        for _, name, layer in self.placed_layers():
            initialize(layer, name, seed)
        for parameter in self.parameters():
            parameter.__dict__["tensor_model_parallel"] = sharding_of(parameter) is not None

    @property
    def places(self) -> int:
        """How many layers there are on all ranks together."""
        return len(self._plan)

    @property
    def layer_names(self) -> list[str]:
        """The layers of all ranks together, by their names in `EncoderDecoder`."""
        return [layer.name for layer in self._plan]

    def placed_layers(self) -> Iterator[tuple[int, str, nn.Module]]:
        """The layers that this rank holds, each with its place among all and its name in `EncoderDecoder`."""
        for place, layer in enumerate(self._plan):
            if layer.name in self.tied_modules:
                yield place, layer.name, self.tied_modules[layer.name]
            elif self.stage_owner(place) == self._mesh.pipe.index:
                yield place, layer.name, self.get_submodule(str(place))

    def named_tensors(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that this rank holds, whole or in part, by their names in `EncoderDecoder`."""
        for _, layer, module in self.placed_layers():
            for name, parameter in module.named_parameters():
                yield f"{layer}.{name}", parameter

    def get_tied_weights_and_groups(self) -> list[tuple[nn.Parameter, ProcessGroup]]:
        """What the engine sums over which ranks, once a step, before the data-parallel ranks."""
        tied: list[tuple[nn.Parameter, Any]] = super().get_tied_weights_and_groups()
        if not self._mesh.split_rows:
            return tied
        whole = [parameter for parameter in self.parameters() if sharding_of(parameter) is None]
        return tied + [(parameter, self._mesh.tensor.group) for parameter in whole]

    def _synchronize_tied_weights(self) -> None:
        """Nothing: `initialize` and checkpoints give all stages the same."""

    def _partition_layers(self, method: str = "") -> None:
        """DeepSpeed knows no way to cut by hand but this one."""
        self.parts = self._bounds
        self._set_bounds(self.parts[self.stage_id], self.parts[self.stage_id + 1])


class DualPipeline(DualPipeVModule, Pipeline):
    """The same for DualPipeV: rank r of p holds stages r and 2p - 1 - r."""


def build_pipeline(config: RunConfig, vocabulary: Vocabulary, setup: Setup, loss: TrainingLoss) -> Pipeline:
    """This rank's part of the model, with its initial weights; a collective call of all ranks."""
    parallel, mesh = config.parallel, setup.mesh
    plan = plan_layers(config.model, vocabulary.size, vocabulary.target_start, setup)
    dual = parallel.schedule == "dualpipev"
    bounds = cut_stages(
        config.model,
        vocabulary.target_size,
        config.data.row_length,
        sum(weight > 0 for weight in (config.loss.encoder_weight, config.loss.decoder_weight)),
        mesh.pipe.size * (2 if dual else 1),
        parallel.stages,
    )
    module = (DualPipeline if dual else Pipeline)(plan, bounds, mesh, loss)
    module.initialize(config.train.seed)
    return module
