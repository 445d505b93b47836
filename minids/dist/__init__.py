"""Many processes: layouts, shards, experts, pipelines, on torch.distributed."""
