import torch

from minids.nn.cache import FIRST_ROOM, Cache, LayerCache


def test_what_was_kept_comes_back_in_order_through_growth():
    layer, given = LayerCache(), torch.randn(2, 3 * FIRST_ROOM, 5)
    seen = 0
    for step in (1, FIRST_ROOM - 1, 1, 7, 2 * FIRST_ROOM - 8):
        part = given[:, seen : seen + step]
        seen += step
        kept, tail = layer.append(part, part[..., 0])
        assert torch.equal(kept, given[:, :seen])
        assert torch.equal(tail, given[:, :seen, 0])
    assert layer.length == 3 * FIRST_ROOM


def test_a_cropped_cache_forgets_and_goes_on():
    cache = Cache(1)
    first, second = torch.randn(2, 1, 9, 4)
    cache.layers[0].append(first)
    cache.crop(6)
    assert cache.length == 6
    (kept,) = cache.layers[0].append(second[:, :2])
    assert torch.equal(kept, torch.cat((first[:, :6], second[:, :2]), dim=1))
    cache.crop(100)
    assert cache.length == 8


def test_rows_are_dropped_and_repeated():
    cache, given = Cache(2), torch.randn(3, 5, 4)
    for layer in cache.layers:
        layer.append(given)
    cache.select(torch.tensor([2, 0, 0, 1]))
    (kept,) = cache.layers[1].append(torch.zeros(4, 1, 4))
    assert torch.equal(kept[:, :5], given[[2, 0, 0, 1]])


def test_bytes_count_tokens_not_room():
    cache = Cache(2)
    assert (cache.length, cache.n_bytes) == (0, 0)
    for layer in cache.layers:
        layer.append(torch.zeros(3, 5, 18), torch.zeros(3, 5, 8))
    assert cache.n_bytes == 2 * 3 * 5 * (18 + 8) * 4
