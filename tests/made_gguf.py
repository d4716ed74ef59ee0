"""Heads of GGUF files, and what that of Llama 3 8B says."""

from __future__ import annotations

import struct

LLAMA_3_8B: dict[str, int | str | list[str]] = {
    "general.architecture": "llama", "general.name": "Llama 3.1 8B", "llama.block_count": 32, "llama.embedding_length": 4096,
    "llama.feed_forward_length": 14336, "llama.attention.head_count": 32, "llama.attention.head_count_kv": 8,
    "llama.context_length": 131072, "llama.vocab_size": 128256, "general.file_type": 15,
}  # fmt: skip


def text(said: str) -> bytes:
    return struct.pack("<Q", len(said)) + said.encode()


def gguf(pairs: dict[str, int | str | list[str]], tensors: list[str]) -> bytes:
    """The head of a GGUF file, as ggml-org/ggml, docs/gguf.md lays it out."""
    made = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    for key, value in pairs.items():
        if isinstance(value, int):
            made += text(key) + struct.pack("<II", 4, value)
        elif isinstance(value, str):
            made += text(key) + struct.pack("<I", 8) + text(value)
        else:
            made += text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return made + b"".join(text(name) + struct.pack("<IQQIQ", 2, 8, 8, 12, 0) for name in tensors)
