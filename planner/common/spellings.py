"""What engineers call our fields and values elsewhere, so that a message can name ours: options of Megatron-LM, DeepSpeed,
Hugging Face, vLLM and torchtitan, and everyday words. For messages only: no input is read under another name."""

from __future__ import annotations

FIELDS: dict[str, str] = {
    "layout.tp": "tensor_parallel tensor_parallel_size tensor_model_parallel_size tensor_parallelism"
    " tensor_parallel_degree tp_size tp_degree model_parallel model_parallel_size mp",
    "layout.pp": "pipeline_parallel pipeline_parallel_size pipeline_model_parallel_size pipeline_parallelism"
    " pipeline_parallel_degree pp_size pp_degree pipeline_stages num_stages pipeline",
    "layout.vpp": "virtual_pipeline_model_parallel_size virtual_pipeline_parallel_size virtual_stages interleave"
    " num_virtual_stages",
    "layout.cp": "context_parallel context_parallel_size context_parallelism context_parallel_degree cp_size ring_attention",
    "layout.ep": "expert_parallel expert_parallel_size expert_model_parallel_size expert_parallelism"
    " expert_parallel_degree ep_size enable_expert_parallel",
    "layout.etp": "expert_tensor_parallel expert_tensor_parallel_size",
    "layout.dp": "data_parallel data_parallel_size data_parallelism data_parallel_degree dp_size dp_degree ddp",
    "layout.zero": "zero_stage zero_optimization stage fsdp sharding sharding_strategy",
    "layout.sequence_parallel": "sp",
    "layout.micro_batch_size": "mbs micro_batch microbatch microbatch_size per_device_batch_size"
    " per_device_train_batch_size train_micro_batch_size_per_gpu local_batch_size"
    " batch_size_per_gpu",
    "layout.recompute": "activation_checkpointing gradient_checkpointing activation_checkpoint activation_recompute"
    " recompute_granularity checkpointing recomputation remat",
    "layout.offload_optimizer": "cpu_offload optimizer_offload offload",
    "layout.offload_parameters": "param_offload parameter_offload offload_params",
    "layout.offload_activations": "activation_offload cpu_offloading",
    "job.global_batch_size": "gbs batch_size batch train_batch_size global_batch",
    "job.seq_len": "seq_length sequence_length max_seq_len max_seq_length seqlen context context_length context_size"
    " max_length cutoff_len max_position_embeddings max_model_len",
    "job.precision": "dtype mixed_precision torch_dtype data_type",
    "job.adapter.rank": "rank r lora_r lora_rank",
    "job.optimizer": "optim optimizer_type",
    "job.num_tokens": "tokens total_tokens train_tokens",
    "job.num_steps": "steps max_steps train_steps train_iters iterations training_steps num_train_steps",
    "job.num_epochs": "epochs num_train_epochs",
    "job.num_samples": "samples train_samples num_examples dataset_size",
    "cluster.num_gpus": "gpus n_gpus gpu_count num_devices world_size n_gpu",
    "cluster.num_nodes": "nodes n_nodes nnodes",
    "cluster.gpus_per_node": "nproc_per_node num_gpus_per_node",
    "cluster.accelerator": "gpu gpu_type gpu_name device chip",
    "cluster.network_gbit_per_s": "network network_bandwidth bandwidth infiniband",
    "price.usd_per_gpu_hour": "price hourly_price price_per_hour usd_per_hour cost_per_hour"
    " cost_per_gpu_hour gpu_price dollars_per_hour",
    "price.region": "cloud_region zone",
    "cost.electricity_usd_per_kwh": "electricity electricity_price power_price",
    "model.num_layers": "n_layers n_layer num_hidden_layers layers depth",
    "model.hidden_size": "d_model n_embd dim embed_dim hidden_dim hidden",
    "model.num_heads": "n_heads n_head num_attention_heads heads",
    "model.num_kv_heads": "n_kv_heads num_key_value_heads kv_heads num_query_groups",
    "model.ffn_hidden_size": "intermediate_size d_ff ffn_dim ffn_size n_inner",
    "model.num_experts": "n_experts num_local_experts n_routed_experts experts",
    "model.top_k": "num_experts_per_tok topk moe_topk moe_router_topk experts_per_token num_experts_per_token",
    "model.vocab_size": "n_vocab vocab padded_vocab_size",
    "serving.prompt": "input input_len input_length prompt_len prompt_length input_tokens prompt_tokens isl",
    "serving.output": "output_len output_length output_tokens max_tokens max_new_tokens osl",
    "serving.weights": "quantization quant weight_dtype weights_dtype",
    "serving.kv_dtype": "kv kv_cache_dtype kv_cache_type kv_cache",
    "serving.dp": "replicas num_replicas",
    "serving.requests_per_s": "qps rps rate request_rate requests_per_second",
    "serving.clients": "concurrency users num_users max_concurrency concurrent_requests",
    "serving.batch": "batch_size bs",
    "serving.memory_fraction": "gpu_memory_utilization mem_fraction_static",
    "serving.max_batch": "max_num_seqs max_batch_size max_running_requests max_concurrent_requests",
    "serving.max_context": "max_model_len max_seq_len context_length max_context_length context_size ctx_size",
    "serving.chunked_prefill_tokens": "max_num_batched_tokens chunked_prefill_size",
    "framework.attention_kernel": "flash_attn attn_implementation attention_implementation",
    "layout": "parallel parallelism parallel_config parallelization strategy distributed",
    "cluster": "hardware machine machines system",
    "job": "training train task workload",
    "serving": "serve inference deployment",
    "framework": "stack library backend trainer",
    "model": "architecture network",
}
"""Place in a scenario, or table -> its other names, blanks between them, small letters, words joined by "_"."""

VALUES: dict[str, str] = {
    "fp32": "float32 float full",
    "fp16": "float16 half f16",
    "bf16": "bfloat16",
    "bf16-pure": "pure_bf16",
    "fp8": "float8 e4m3 fp8_e4m3",
    "nvfp4": "fp4 float4",
    "int4": "w4a16 4bit",
    "int8": "w8a8 8bit",
    "adamw": "adam fused_adam fusedadam adamw_torch adamw_torch_fused adamw_fused",
    "adamw-8bit": "adam8bit adamw8bit adam_8bit adamw_bnb_8bit",
    "sgd-momentum": "momentum_sgd sgd_with_momentum sgdm",
    "paged-adamw": "paged_adamw_32bit",
    "galore-adamw": "galore galore_adamw",
    "galore-adamw-8bit": "galore_adamw_8bit galore_adamw8bit",
    "full": "true yes on all block",
    "none": "false no off",
    "selective": "partial",
}
"""Value of a choice -> what it is called elsewhere."""

WITHOUT_EFFECT = (
    "learning_rate lr min_lr lr_scheduler lr_scheduler_type scheduler warmup warmup_ratio lr_warmup"
    " weight_decay beta1 beta2 betas adam_beta1 adam_beta2 eps epsilon adam_epsilon clip_grad max_grad_norm"
    " gradient_clipping dataset data data_path dataset_name tokenizer logging_steps log_interval wandb output_dir"
    " save_dir temperature top_p label_smoothing label_smoothing_factor init_method_std split"
)
"""Options of trainers and servers that change neither memory nor time."""


def plain(name: str) -> str:
    """A name as the tables here have it.

    >>> plain("--Tensor-Parallel-Size")
    'tensor_parallel_size'
    """
    return name.strip().lower().lstrip("-").replace("-", "_").replace(" ", "_")


def ours(name: str, others: dict[str, str]) -> tuple[str, ...]:
    """Our names for what is called ``name`` elsewhere.

    >>> ours("tensor-parallel-size", FIELDS), ours("qps", FIELDS), ours("half", VALUES)
    (('layout.tp',), ('serving.requests_per_s',), ('fp16',))
    """
    return tuple(known for known, names in others.items() if plain(name) in names.split())


def places(name: str) -> tuple[str, ...]:
    """Where a scenario has what is called ``name``, here or elsewhere.

    >>> places("tp"), places("--batch-size"), places("colour")
    (('layout.tp',), ('job.global_batch_size', 'serving.batch'), ())
    """
    own = tuple(place for place in FIELDS if place.partition(".")[2] == plain(name))
    return own or tuple(place for place in ours(name, FIELDS) if "." in place)
