"""Text → tokens → batches: the tokenizer and its trainer, corpora, token files, packing."""
