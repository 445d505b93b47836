"""A model cut into stages, run by torch's pipeline in exactly the order that a Schedule says.

Each rank holds the blocks of its stages under their usual names. What travels from stage to stage
is the stream, and beside it one number per row: the balance losses of the expert layers so far, so
that one loss at the end has all gradients. Every rank of a pipeline reads the same rows; the first
stage embeds them, the last one knows the labels.
Axes: p ranks of a pipeline, S stages, m micro-batches; b rows of one, s positions, d hidden_size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining._backward import stage_backward_weight
from torch.distributed.pipelining.schedules import (
    _Action,
    _ComputationType,
    _PipelineScheduleRuntime,
)
from torch.distributed.tensor import DTensor

from minids.dist.schedules import Action, Schedule, parts
from minids.errors import UserError
from minids.nn.loss import IGNORE
from minids.nn.moe import MoE
from minids.nn.transformer import Labelled, Loss, Transformer


class Elsewhere(nn.Module):
    """A block that another rank holds: no weights, no experts."""

    mlp = None


class Part(Transformer):
    """The blocks of some stages of a whole model, under the whole model's names.

    The last stage needs the embedding too if MTP or a tied head does; then first and last hold a
    copy each, and their gradients are added up.
    """

    def __init__(self, whole: Transformer, mine: Sequence[int], stages: int) -> None:
        nn.Module.__init__(self)
        self.cfg, self.compute_dtype = whole.cfg, whole.compute_dtype
        held = {layer for stage in mine for layer in layers_of(stage, stages, whole.cfg)}
        self.layers = nn.ModuleList(
            block if i in held else Elsewhere() for i, block in enumerate(whole.layers)
        )
        self.mtp = nn.ModuleList()
        first, last = 0 in mine, stages - 1 in mine
        self.shares_embedding = bool(len(whole.mtp)) or whole.cfg.tie_word_embeddings
        if first or (last and self.shares_embedding):
            self.embed_tokens = whole.embed_tokens
        if last:
            self.norm, self.lm_head, self.mtp = whole.norm, whole.lm_head, whole.mtp
        self.rows = [  # of `Loss.load` that are counted and steered here
            row for row, layer in enumerate(expert_layers(whole))
            if layer in held or (last and layer >= len(whole.layers))
        ]  # fmt: skip
        self.n_rows = len(list(whole.moe_layers()))
        self.copies = ["embed_tokens.weight"] if last and not first else []

    def update_biases(self, load: Tensor) -> None:
        """Of the experts that are here.  load [L e]"""
        super().update_biases(load[self.rows])


def layers_of(stage: int, stages: int, cfg) -> range:
    """The layers of a stage, as even as can be.  Raises UserError if there are too few."""
    layers = cfg.num_hidden_layers
    if stages > layers:
        raise UserError(
            "parallel.pipeline", f"{stages} stages for {layers} layers", f"1 … {layers}"
        )
    return range(stage * layers // stages, (stage + 1) * layers // stages)


def expert_layers(model: Transformer) -> Iterator[int]:
    """Numbers of the layers with experts, MTP modules last, as in `Loss.load`."""
    blocks = [*model.layers, *model.mtp]
    return (i for i, block in enumerate(blocks) if isinstance(block.mlp, MoE))


class Stage(nn.Module):
    """One stage: what torch's pipeline calls for every micro-batch."""

    def __init__(self, part: Part, stage: int, stages: int) -> None:
        super().__init__()
        self.first, self.last = stage == 0, stage == stages - 1
        self.numbers = list(layers_of(stage, stages, part.cfg))
        self.layers = nn.ModuleList(part.layers[i] for i in self.numbers)
        if self.first:
            self.embed_tokens = part.embed_tokens
        if self.last:
            names = ["norm", "lm_head", "mtp"] + ["embed_tokens"] * part.shares_embedding
            for name in names:
                self.add_module(name, part.get_submodule(name))
        self.whole = [part]  # in a list: not a submodule
        self.targets = 1  # of the whole step
        self.counts: list[tuple[int, Tensor]] = []  # layer, visits [e]
        self.losses: list[Loss] = []

    def forward(
        self, x: Tensor, balance: Tensor | None = None, *, tokens: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor] | Tensor:
        """x [b s d] (the first stage's: tokens [b s]), balance [b] → the same, at last the loss"""
        part = self.whole[0]
        if balance is None:
            x = part.embed(x)  # [b s d]
            balance = torch.zeros(len(x), device=x.device, requires_grad=True).to(x.dtype)  # [b]
        assert balance is not None
        rope = part.rope(torch.arange(tokens.shape[1], device=x.device))
        for number, block in zip(self.numbers, self.layers, strict=True):
            x, routing = block(x, rope)
            if isinstance(block.mlp, MoE):
                balance = balance + block.mlp.balance_loss(routing, len(tokens))  # [b]
                self.counts.append((number, routing.load))
        if not self.last:
            return x, balance * 1  # never the very tensor that came in
        return self.loss(part, part.norm(x), balance, tokens, labels)

    def loss(
        self, part: Part, state: Tensor, balance: Tensor, tokens: Tensor, labels: Tensor
    ) -> Tensor:
        """As `Transformer.loss`, over the targets of the whole step.  → scalar"""
        targets = (labels != IGNORE).sum(-1)  # [b]
        main, routings = part.cross_entropy(state, labels), []
        mtp, n_mtp = part.mtp_losses(tokens, labels, state, routings)  # [u], [u]
        at = part.cfg.num_hidden_layers
        for u, (module, routing) in enumerate(zip(part.mtp, routings, strict=False)):
            assert isinstance(module.mlp, MoE)
            balance = balance + module.mlp.balance_loss(routing, len(tokens))  # [b]
            self.counts.append((at + u, routing.load))
        weighed = (balance * targets).sum()
        total = main + weighed + part.cfg.mtp_loss_weight / max(len(mtp), 1) * mtp.sum()
        sums = main.detach(), mtp.detach(), targets.sum(), n_mtp, weighed.detach()
        self.losses.append(Loss(total.detach(), *sums, targets.new_zeros(0, 0)))
        return total / self.targets


class NotedStage(PipelineStage):
    """A stage as torch runs it, that notes what it does."""

    def __init__(self, done: list[Action], stage: Stage, number: int, *args, **kwargs) -> None:
        super().__init__(stage, number, *args, **kwargs)
        self.done = done

    def forward_one_chunk(self, fwd_chunk_id, *args, **kwargs):
        self.done.append(Action("F", self.stage_index, fwd_chunk_id))
        return super().forward_one_chunk(fwd_chunk_id, *args, **kwargs)

    def backward_one_chunk(self, bwd_chunk_id, *args, full_backward=True, **kwargs):
        kind = "B" if full_backward else "I"
        self.done.append(Action(kind, self.stage_index, bwd_chunk_id))
        return super().backward_one_chunk(
            bwd_chunk_id, *args, full_backward=full_backward, **kwargs
        )

    def backward_weight_one_chunk(self, bwd_chunk_id, *args, **kwargs):
        self.done.append(Action("W", self.stage_index, bwd_chunk_id))
        return super().backward_weight_one_chunk(bwd_chunk_id, *args, **kwargs)

    def _post_metadata_inference_cleanup(self) -> None:
        """Shapes are told, so no step was tried; torch would drop the gradients' memory here."""

    def backward_maybe_with_nosync(self, backward_type, bwd_kwargs, last_backward=False):
        """torch frees a graph after the first of its weights; here several may share a node."""
        if backward_type != "weight":
            return super().backward_maybe_with_nosync(backward_type, bwd_kwargs, last_backward)
        groups = bwd_kwargs["param_groups"]
        return stage_backward_weight(self.submod.parameters(), groups, retain_graph=True), None


class Pipeline:
    """The stages of one rank, and the order in which they run."""

    def __init__(
        self,
        whole: Transformer,
        schedule: Schedule,
        group: dist.ProcessGroup,
        rows: int,
        s: int,
        shard: Callable[[Part, Sequence[nn.Module]], None] = lambda _part, _stages: None,
    ) -> None:
        """rows of a rank's batch, s its positions; the model's weights are the same on all ranks.

        `shard` spreads the part further, over the ranks that hold the same stages.
        """
        if schedule.ways > 1:
            raise UserError("schedule", f"{schedule.name} holds every stage twice", "dualpipev")
        self.schedule, self.group = schedule, group
        self.rank = dist.get_rank(group)
        mine = sorted({a.stage for a in flat(schedule.orders[self.rank])})
        self.part = Part(whole, mine, schedule.stages)
        self.stages = [Stage(self.part, stage, schedule.stages) for stage in mine]
        shard(self.part, self.stages)
        self.done: list[Action] = []
        b = rows // schedule.micro_batches
        device = next(self.part.parameters()).device
        stages = [self.torch_stage(stage, number, b, s, device)
                  for number, stage in zip(mine, self.stages, strict=True)]  # fmt: skip
        self.runtime = _PipelineScheduleRuntime(
            stages, schedule.micro_batches, loss_fn=lambda loss, _target: loss, scale_grads=False
        )
        orders: dict[int, list[_Action | None]] = {
            r: [action_of(a) for a in order] for r, order in enumerate(schedule.orders)
        }
        self.runtime.pipeline_order = orders
        self.runtime._prepare_schedule_with_comms(orders)

    def torch_stage(
        self, stage: Stage, number: int, b: int, s: int, device: torch.device
    ) -> PipelineStage:
        """A stage as torch knows it, shapes told beforehand."""
        dtype = self.part.compute_dtype
        stream = torch.empty(b, s, self.part.cfg.hidden_size, dtype=dtype, device="meta")
        between = (
            stream.requires_grad_(),
            torch.empty(b, dtype=dtype, device="meta").requires_grad_(),
        )
        tokens = torch.empty(b, s, dtype=torch.int64, device="meta")
        end = torch.empty((), dtype=torch.promote_types(dtype, torch.float32), device="meta")
        return NotedStage(
            self.done, stage, number, self.schedule.stages, device,
            input_args=(tokens,) if stage.first else between,
            output_args=(end.requires_grad_(),) if stage.last else between,
            group=self.group,
        )  # fmt: skip

    def run(self, batch: Labelled, n_targets: int) -> tuple[list[Loss], Tensor]:
        """Forward and backward of a rank's rows in the schedule's order.

        Gradients are of the sum of losses over `n_targets`. → losses of the micro-batches, on the
        last stage; visits [L e] of the experts here, zeros elsewhere.
        """
        self.done.clear()
        for stage in self.stages:
            stage.targets, stage.counts, stage.losses = n_targets, [], []
        first, last = (any(getattr(s, name) for s in self.stages) for name in ("first", "last"))
        self.runtime.step(
            *((batch.tokens,) if first else ()),
            target=batch.labels if last else None,
            losses=[] if last else None,
            tokens=batch.tokens,
            labels=batch.labels,
            return_outputs=False,
        )
        self.add_copies()
        experts = max(1, self.part.cfg.n_routed_experts)
        load = batch.tokens.new_zeros(self.part.n_rows, experts)  # [L e]
        row_of = dict(zip(self.expert_numbers(), self.part.rows, strict=True))
        for stage in self.stages:
            for layer, visits in stage.counts:
                load[row_of[layer]] += visits
        return [loss for stage in self.stages for loss in stage.losses], load

    def expert_numbers(self) -> list[int]:
        """The layers with experts on this rank."""
        return list(expert_layers(self.part))

    def add_copies(self) -> None:
        """First and last stage hold the embedding: both get the sum of its gradients."""
        part = self.part
        if not part.shares_embedding:
            return
        ends = [r for r, order in enumerate(self.schedule.orders)
                if {0, self.schedule.stages - 1} & {a.stage for a in flat(order)}]  # fmt: skip
        if len(ends) < 2 or self.rank not in ends:
            return
        other = dist.get_global_rank(self.group, ends[1 - ends.index(self.rank)])
        grad = part.embed_tokens.weight.grad
        assert grad is not None
        mine = grad.to_local() if isinstance(grad, DTensor) else grad
        got = torch.empty_like(mine)
        words = [dist.P2POp(dist.isend, mine, other, self.group),
                 dist.P2POp(dist.irecv, got, other, self.group)]  # fmt: skip
        for work in dist.batch_isend_irecv(words):
            work.wait()
        mine.add_(got)  # two terms: the same sum on both


def flat(order: Sequence[Action]) -> Iterator[Action]:
    """Plain actions alone."""
    return (Action(*part) for action in order for part in parts(action))


def action_of(action: Action) -> _Action:
    """An action in torch's words."""
    plain = [
        _Action(stage, _ComputationType.from_str(kind), micro)
        for kind, stage, micro in parts(action)
    ]
    if len(plain) == 1:
        return plain[0]
    return _Action(-1, _ComputationType.OVERLAP_F_B, None, tuple(plain))
