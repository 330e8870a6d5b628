"""Where torch lives: loading weights, the KV cache, the decode loop, sampling."""
