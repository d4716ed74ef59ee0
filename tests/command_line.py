"""A scenario that is right, and what the fixture ``run`` gives: exit code, standard output, standard error."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
GOOD = """
title = "test"
[model]
name = "llama-2-7b"
[cluster]
node = "dgx-a100-80gb"
[framework]
name = "megatron-core"
[job]
seq_len = 2048
global_batch_size = 64
num_tokens = 1_000_000_000
[layout]
tp = 2
zero = 1
sequence_parallel = true
"""
