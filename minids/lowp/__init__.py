"""Eight bits and fewer: number formats, scales, accumulation, linear layers, kernels."""
