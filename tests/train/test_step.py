"""One step: any split of the batch is the same step."""

from dataclasses import replace

import pytest
import torch

from minids.data.batches import IGNORE, Batch
from minids.nn.transformer import Transformer
from minids.train.comm import Solo
from minids.train.step import Gradients, clip, gradient


@pytest.fixture
def model(micro):
    cfg = replace(micro().model, aux_loss_alpha=0.0)  # the balance loss is per batch by definition
    model = Transformer(cfg).double()
    model.init_weights(torch.Generator().manual_seed(0))
    model.compute_dtype = torch.float64
    return model


def ragged_batch(rows: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 272, (rows, 24), generator=generator)
    labels = torch.cat((tokens[:, 1:], torch.full((rows, 1), IGNORE)), dim=1)
    for row in range(rows):
        labels[row, 3 + 2 * row :] = IGNORE
    return Batch(tokens, labels, [])


def split(batch: Batch, parts: int) -> list[Batch]:
    return [
        Batch(t, y, [])
        for t, y in zip(batch.tokens.chunk(parts), batch.labels.chunk(parts), strict=True)
    ]


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_is_exact_for_ragged_rows(model, parts):
    batch = ragged_batch()
    whole = Gradients(model)
    report = gradient(model, whole, [batch], Solo())
    expected = whole.flat.clone()
    again = gradient(model, whole, split(batch, parts), Solo())
    assert again.loss == pytest.approx(report.loss, abs=1e-12)
    assert again.n_targets == report.n_targets
    assert again.load == report.load
    torch.testing.assert_close(whole.flat, expected, rtol=0, atol=1e-12)


def test_a_batch_without_targets_is_no_disaster(model):
    batch = ragged_batch()
    empty = Batch(batch.tokens, torch.full_like(batch.labels, IGNORE), [])
    gradients = Gradients(model)
    report = gradient(model, gradients, [empty], Solo())
    assert report.loss == 0.0
    assert torch.isfinite(gradients.flat).all()


def test_clipping_scales_to_the_limit_and_leaves_small_gradients(model):
    gradients = Gradients(model)
    report = gradient(model, gradients, [ragged_batch()], Solo())
    before = gradients.flat.clone()
    clip(gradients, report.grad_norm, report.grad_norm * 2)
    assert torch.equal(gradients.flat, before)
    clip(gradients, report.grad_norm, 0.5)
    assert torch.linalg.vector_norm(gradients.flat).item() == pytest.approx(0.5, rel=1e-4)
