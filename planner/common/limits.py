"""The largest sizes that are answered: one table for files, the command line, the library and the page.

They lie far above everything that was ever trained, served or paid. Beyond them no measured curve says anything, and some of them
would hold a process for minutes.
"""

MOST = 2**27
"""Of any count or size: as many tokens as a sequence may have; published widths, heads and vocabularies are smaller."""
MOST_ELEMENTS = 10**15
"""Of parameters that are given as one number: published models end at some 10^12."""

LARGEST: dict[str, tuple[float, str]] = {
    "job.seq_len": (MOST, "the longest published context is 10 million tokens"),
    "job.global_batch_size": (2**27, "published batches end at some hundred thousand sequences"),
    "job.num_tokens": (10**16, "the largest published corpora hold some 10^13 tokens"),
    "job.num_samples": (10**15, "the largest published corpora hold some 10^13 tokens"),
    "job.num_steps": (10**12, "published runs end at some million steps"),
    "job.num_epochs": (10**6, "published runs end at some thousand"),
    "model.hidden_size": (2**20, "published models end below 2^16"),
    "model.ffn_hidden_size": (2**22, "published models end below 2^18"),
    "model.vocab_size": (2**25, "published vocabularies end at a million"),
    "model.num_heads": (2**16, "published models end at some hundred"),
    "model.num_experts": (2**16, "published models end at some thousand"),
    "model.num_zero_experts": (2**16, "published models end at some hundred"),
    "cluster.num_gpus": (2**22, "the largest clusters announced hold some hundred thousand GPUs"),
    "serving.num_requests": (500_000, "percentiles settle with some ten thousand requests"),
    "serving.batch": (2**20, "servers run some thousand sequences at once"),
    "serving.max_batch": (2**20, "servers run some thousand sequences at once"),
    "serving.dp": (2**16, "the largest fleets of one model hold some thousand replicas"),
    "serving.requests_per_s": (10**9, "the busiest services answer some hundred thousand requests a second"),
    "price.usd_per_gpu_hour": (10**6, "the dearest GPU-hour quoted costs some hundred dollars"),
    "run.checkpoint_bytes": (10**18, "published checkpoints end at some tens of terabytes"),
    "run.restart_s": (10**8, "that is three years"),
    "run.repair_s": (10**8, "that is three years"),
    "run.detection_s": (10**8, "that is three years"),
    "run.slowest_recovery_s": (10**8, "that is three years"),
    "run.preemption_wait_s": (10**8, "that is three years"),
}
