"""What is trained: the architecture of a dense or mixture-of-experts language model, field by field."""

from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from planner.common.message import Message
from planner.common.spec import Spec
from planner.model.variants import Count, Elements, Mixer, Positive, Tower, Variant

OPEN = (1, 1)
"""``Model.chosen_groups`` of a router that chooses from all experts."""


class LayerKind(NamedTuple):
    """What tells one layer's operators from another's."""

    moe: bool
    sliding: bool
    role: int = 0  # what it does in fine-tuning with adapters: an index of ROLES
    variant: int = 0  # whose fields hold: 0 = the model's, i = those of its i-th variant


ROLES = ("trained", "adapted", "first adapted", "passing", "still")
"""All weights train; frozen with adapters; the first such one, below which nothing trains; frozen between adapters and
loss; frozen below all adapters."""


class Model(Spec):
    """One language model. Sizes are counts of elements; nothing is guessed from a name or a ratio.

    Field names follow ``training_runs.csv`` and, where that is silent, Hugging Face's ``config.json``.
    """

    name: str
    source: str = ""
    architecture: Literal["decoder", "encoder"] = "decoder"

    num_layers: Annotated[int, Field(gt=0, le=10_000, strict=True)]
    hidden_size: Positive
    vocab_size: Positive

    # attention
    num_heads: Positive
    num_kv_heads: Positive = 0  # filled from the other fields when left out
    head_dim: Positive = 0  # filled from the other fields when left out
    attention: Literal["mha", "gqa", "mqa", "mla"] = "mha"  # derived from the heads when left out
    q_lora_rank: Positive | None = None
    kv_lora_rank: Positive | None = None
    qk_nope_head_dim: Positive | None = None
    qk_rope_head_dim: Count | None = None  # 0: no part of a key turns with its position (layers without positions)
    v_head_dim: Positive | None = None
    sliding_window: Positive | None = None
    memory_length: Count = 0  # cached keys of the previous segment (Transformer-XL); dense unfused attention only
    relative_attention: bool = False  # scores of positions beside those of content (Transformer-XL)
    disentangled_positions: Count = 0  # rows of a table of distances whose queries and keys score against the tokens' (DeBERTa)
    position_bias: bool = False  # a learned number for each distance and head is added to the scores (T5, section 2.1)
    cross_attention: bool = False  # its decoder layers attend to the output of the encoder layers in front of them (T5, BART)
    shared_weights: bool = False  # of a variant: its layers run the weights of the layer in front of them again (ALBERT)
    image_attention: bool = False  # of a variant: its layers attend to the images' tokens, not to their own (Llama 3.2 Vision)
    full_attention_every: Count = 0  # every n-th layer attends to everything; 0 = none does
    first_sliding_layer: Count = 0
    full_attention_layers: tuple[Count, ...] = ()  # further layers that attend to everything, by index
    softmax_in_fp32: bool = True  # an eager kernel upcasts the scores (llama and kin; not gpt2, bert)
    attention_sinks: bool = False  # one learned logit per head (gpt_oss)
    attention_chunked: bool = False  # sliding layers see their chunk of sliding_window tokens only (llama4)
    attention_gate: Literal["none", "head", "full", "query"] = (
        "none"  # a sigmoid on the output: one per head, or per element; query: made by the query projection (qwen3_next)
    )
    attention_output_norm: bool = False  # in front of the output projection (bitnet)
    # over head_dim (qwen3) or over all heads (olmoe); key: over head_dim, without a weight for queries (deepseek_v4)
    qk_norm: Literal["none", "head", "full", "key"] = "none"
    qk_norm_weight: bool = True  # false: normalized without a weight (llama4)
    qk_norm_bias: bool = False
    keys_are_values: bool = False  # one projection for both (gemma4's full layers)
    one_key_value: bool = False  # one vector a token is key and value of all heads, and is cached once (DeepSeek-V4)
    compress_ratio: Count = 0  # so many tokens make one further key beside those of the window (DeepSeek-V4, CSA and HCA)
    compress_overlap: bool = False  # each from two such runs of tokens, in projections twice as wide (CSA)
    output_groups: Count = 0  # of heads, each brought down to output_lora_rank before the output projection (DeepSeek-V4)
    output_lora_rank: Count = 0
    hyper_streams: Count = 0  # copies of the residual stream, mixed before and behind each block (mHC, arXiv 2512.24880)
    shared_kv: bool = False  # no keys and values of its own: those of an earlier layer (gemma3n)
    index_num_heads: Count = 0  # heads of the lightning indexer that picks index_top_k keys (DeepSeek-V3.2, section 2.1)
    index_head_dim: Count = 0
    index_top_k: Count = 0

    # what mixes tokens where it is not attention; for a state space, keys are its B and C, values its heads
    mixer: Mixer = "attention"
    attention_beside_mixer: bool = False  # attention reads the same input and its output is added (falcon_h1)
    recurrent_key_heads: Count = 0
    recurrent_key_head_dim: Count = 0
    recurrent_value_heads: Count = 0
    recurrent_value_head_dim: Count = 0
    conv_kernel: Count = 0
    conv_bias: bool = False
    recurrent_bias: bool = False  # of its projections
    recurrent_norm: Literal["none", "head", "full"] = "none"  # of its output: a weight over one head, or over all
    recurrent_gate_rank: Count = 0  # inner width of decay and output gates (kimi_delta); 0 = one matrix
    time_step_rank: Count = 0  # inner width of the time step (mamba)

    # feed-forward
    ffn_hidden_size: Count = 0  # filled from the experts' when left out; 0 = no feed-forward
    feed_forward: Literal["by_layer", "none", "dense", "experts"] = "by_layer"  # by_layer: as the fields on experts say
    gated_ffn: bool = True
    # gelu_tanh: GPT-2's formula, written in Python; relu2: the square of relu
    activation: Literal["silu", "gelu", "relu", "gelu_tanh", "relu2", "clamped_quick_gelu"] = "silu"

    # mixture of experts
    num_experts: Count = 0
    top_k: Count = 0
    expert_ffn_hidden_size: Positive | None = None
    num_shared_experts: Count = 0
    shared_expert_ffn_hidden_size: Positive | None = None  # of one shared expert; default as a routed one
    shared_expert_gate: bool = False
    router_bias: bool = False
    expert_latent_size: Positive | None = None  # experts read and write vectors of this width (nemotron_h)
    num_zero_experts: Count = 0  # further choices of the router that compute nothing (longcat_flash)
    num_dense_layers: Count = 0  # the first layers keep a dense feed-forward
    moe_every: Positive = 1  # layer i is MoE when (i + 1) % moe_every == 0
    dense_layers: tuple[Count, ...] = ()  # further dense layers, by index
    router_groups: Count = (
        0  # groups of neighbouring experts, of which a token's may come from router_top_groups only; 0 = from all
    )
    router_top_groups: Count = 0
    capacity_factor: Annotated[float, Field(gt=0)] | None = None  # None = dropless

    # the rest
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_bias: bool = False  # layer norms have one unless it says false
    norm_weight: bool = True  # false: norms without weights (olmo)
    norms_per_layer: Annotated[int, Field(ge=1, le=8)] = 2
    norm_placement: Literal["before", "after"] = "before"  # of one norm a block: in front of it, or behind (BERT, OLMo 2)
    layer_vectors: Elements = 0  # elements of a layer's vectors and scalars that no other field names
    parallel_attention: bool = False  # attention and feed-forward read the same input (falcon, gpt_neox)
    final_norm: bool = True
    embedding_norm: bool = False
    position_embedding: Literal["rotary", "learned", "alibi", "none"] = "rotary"
    max_positions: Count = 0  # rows of a learned position table
    position_offset: Count = 0  # of them, in front of the first token's: RoBERTa's padding, OPT's and BART's two
    source_positions: Count = 0  # rows of the table of an encoder in front; 0 = as many (Whisper: 1500, 448 for the decoder)
    context_length: Count = 0  # tokens that its configuration allows; 0 = not known
    embedding_projection_size: Positive | None = None  # word embeddings narrower than hidden_size (opt-350m)
    embedding_all_narrow: bool = False  # positions, types, norm and the head's transform as narrow, too (electra)
    per_layer_embedding_size: Count = 0  # of a second table that gives each layer a vector per token (gemma3n)
    per_layer_vocab_size: Count = 0
    altup_streams: Count = 0  # copies of the residual stream that each layer predicts and corrects (gemma3n)
    laurel_rank: Count = 0  # of a low-rank path beside attention (gemma3n)
    model_vectors: Elements = 0  # elements outside the layers that no other field names
    type_vocab_size: Count = 0
    qkv_bias: bool = False
    attention_output_bias: bool = False
    ffn_bias: bool = False
    head_bias: bool = False
    tied_embeddings: bool = False
    head: Literal["language_model", "masked_language_model", "none"] = "language_model"
    pooler: bool = False  # a square layer with bias and tanh on the first token (BERT)
    # whose names its linear layers have (planner/model/linears.py); adapters are asked for by them
    modules: Literal[
        "llama",
        "mixtral",
        "deepseek",
        "gpt2",
        "qwen",
        "falcon",
        "gpt_neox",
        "chatglm",
        "baichuan",
        "opt",
        "phi",
        "phi3",
        "mpt",
        "internlm2",
        "bert",
        "t5",
        "bart",
        "mllama",
        "deberta",
        "deberta_v1",
        "albert",
    ] = "llama"
    num_labels: Count = 0  # outputs of a small classification layer with bias (BERT's next-sentence prediction: 2)
    label_bias: bool = True
    stored_weights: str = ""  # how its checkpoint stores matrices, where not in 16 bit: the default of serve and of frozen bases
    hidden_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attention_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    # layers that differ: one letter a layer, repeated until the last layer; letters that no variant has mean the fields above
    layer_pattern: str = ""
    variants: tuple[Variant, ...] = ()
    towers: tuple[Tower, ...] = ()

    _roles: tuple[int, ...] = PrivateAttr(default=())  # of each layer; set by with_roles

    @property
    def chosen_groups(self) -> tuple[int, int]:
        """(groups of experts, those that a token's experts may come from): DeepSeek-V3 (8, 4); (1, 1) where all are open."""
        limited = 0 < self.router_top_groups < self.router_groups
        return (self.router_groups, self.router_top_groups) if limited else OPEN

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Derive what follows from other fields, leaving type errors to the fields themselves."""
        if not isinstance(data, dict):
            return data
        d = dict(data)
        heads, hidden = d.get("num_heads"), d.get("hidden_size")
        if d.get("num_kv_heads") is None and isinstance(heads, int):
            d["num_kv_heads"] = 1 if d.get("attention") == "mqa" else heads
        if d.get("head_dim") is None and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            if hidden % heads and d.get("attention") != "mla":
                raise ValueError(
                    Message(
                        "num_heads = {0} does not divide hidden_size = {1}; give head_dim, or a num_heads that does",
                        heads,
                        hidden,
                    )
                )
            d["head_dim"] = max(hidden // heads, 1)
        kv = d.get("num_kv_heads")
        if d.get("attention") is None and isinstance(heads, int) and isinstance(kv, int):
            d["attention"] = "mla" if d.get("kv_lora_rank") else _kind_of_heads(heads, kv)
        if d.get("norm_bias") is None:
            d["norm_bias"] = d.get("norm", "rmsnorm") == "layernorm"
        if d.get("ffn_hidden_size") is None and d.get("expert_ffn_hidden_size") is not None:
            d["ffn_hidden_size"] = d["expert_ffn_hidden_size"]
        if d.get("expert_ffn_hidden_size") is None and d.get("num_experts"):
            d["expert_ffn_hidden_size"] = d.get("ffn_hidden_size")
        if d.get("shared_expert_ffn_hidden_size") is None and d.get("num_shared_experts"):
            d["shared_expert_ffn_hidden_size"] = d.get("expert_ffn_hidden_size")
        return d

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if not self.ffn_hidden_size and self.feed_forward != "none":
            raise ValueError("field ffn_hidden_size is missing")
        self._check_attention()
        self._check_mixer()
        self._check_letters()
        self._check_moe()
        self._check_variants()
        if info.context is not _OF_A_LAYER:
            self._check_encoder()
            self._check_image_attention()
        if self.position_embedding == "learned" and not self.max_positions:
            raise ValueError("max_positions = 0 with position_embedding = 'learned'; give the rows of the position table")
        if self.position_offset and self.position_offset >= self.max_positions:
            offset, rows = self.position_offset, self.max_positions
            raise ValueError(Message("position_offset = {0}: must leave rows of max_positions = {1}", offset, rows))
        if self.head == "none" and self.tied_embeddings:
            raise ValueError("tied_embeddings = true with head = 'none': there is no head to tie; set it to false")
        return self

    def _check_attention(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                Message(
                    "num_kv_heads = {0} does not divide num_heads = {1}; use a divisor of {2}",
                    self.num_kv_heads,
                    self.num_heads,
                    self.num_heads,
                )
            )
        latent = (self.kv_lora_rank, self.qk_nope_head_dim, self.qk_rope_head_dim)
        if self.attention == "mla":
            if None in (*latent, self.v_head_dim):
                raise ValueError("attention = 'mla' needs kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and v_head_dim")
        else:
            if any(x is not None for x in latent):
                raise ValueError(
                    Message("attention = {0!r} with latent sizes (kv_lora_rank, ...); use attention = 'mla'", self.attention)
                )
            right = _kind_of_heads(self.num_heads, self.num_kv_heads)
            if self.attention != right:
                raise ValueError(
                    Message(
                        "attention = {0!r} with {1} key-value heads for {2} heads is {3!r}; correct one of them",
                        self.attention,
                        self.num_kv_heads,
                        self.num_heads,
                        right,
                    )
                )
        if (self.memory_length or self.relative_attention) and self.attention == "mla":
            raise ValueError("memory_length and relative_attention belong to plain attention; use attention = 'mha'")
        if self.disentangled_positions and (self.attention != "mha" or self.architecture != "encoder"):
            raise ValueError("disentangled_positions belong to an encoder's plain attention; use attention = 'mha'")
        blocks = 3 if self.cross_attention else 2
        if self.norm_placement == "after" and self.norms_per_layer != blocks:
            text = "norm_placement = 'after' with norms_per_layer = {0}: it says where one norm a block stands, {1} here"
            raise ValueError(Message(text, self.norms_per_layer, blocks))
        self._check_compressed()
        self._check_windows()

    def _check_compressed(self) -> None:
        if self.one_key_value and self.num_kv_heads != 1:
            raise ValueError(Message("one_key_value = true with num_kv_heads = {0}; it needs 1", self.num_kv_heads))
        if self.compress_ratio and not self.one_key_value:
            raise ValueError(Message("compress_ratio = {0} needs one_key_value = true", self.compress_ratio))
        if bool(self.output_groups) != bool(self.output_lora_rank):
            raise ValueError("output_groups and output_lora_rank belong together; give both, or none")
        if self.output_groups and self.num_heads % self.output_groups:
            raise ValueError(Message("output_groups = {0} does not divide num_heads = {1}", self.output_groups, self.num_heads))

    def _check_windows(self) -> None:
        index = (self.index_num_heads, self.index_head_dim, self.index_top_k)
        if any(index) and not (self.index_head_dim and self.index_top_k):
            raise ValueError("index_num_heads, index_head_dim and index_top_k belong together; give all three, or none")
        if self.attention_chunked and self.sliding_window is None:
            raise ValueError("attention_chunked = true needs sliding_window, the tokens of a chunk")
        for field in ("full_attention_every", "full_attention_layers", "first_sliding_layer"):
            if getattr(self, field) and self.sliding_window is None:
                raise ValueError(Message("{0} = {1} needs sliding_window", field, getattr(self, field)))
        last = self.num_layers - 1
        if self.full_attention_layers and max(self.full_attention_layers) > last:
            raise ValueError(
                Message("full_attention_layers names layer {0}; the last one is {1}", max(self.full_attention_layers), last)
            )

    def _check_mixer(self) -> None:
        """Sizes that each mixer needs; a state space has its heads as values, its B and C as keys."""
        needed = {
            "attention": (),
            "none": (),
            "short_conv": ("conv_kernel",),
            "mamba": (
                "recurrent_key_head_dim",
                "recurrent_value_heads",
                "recurrent_value_head_dim",
                "conv_kernel",
                "time_step_rank",
            ),
            "rwkv4": ("recurrent_value_heads", "recurrent_key_head_dim", "recurrent_value_head_dim"),
            "rwkv5": ("recurrent_value_heads", "recurrent_key_head_dim", "recurrent_value_head_dim"),
            "lightning": ("recurrent_key_head_dim", "recurrent_value_heads", "recurrent_value_head_dim"),
        }.get(
            self.mixer,
            ("recurrent_key_heads", "recurrent_key_head_dim", "recurrent_value_heads", "recurrent_value_head_dim", "conv_kernel"),
        )
        for field in needed:
            if not getattr(self, field):
                raise ValueError(Message("{0} = 0: mixer = {1!r} needs it", field, self.mixer))
        if self.recurrent_key_heads and self.recurrent_value_heads % self.recurrent_key_heads:
            raise ValueError(
                Message(
                    "recurrent_key_heads = {0} does not divide recurrent_value_heads = {1}",
                    self.recurrent_key_heads,
                    self.recurrent_value_heads,
                )
            )

    def _check_letters(self) -> None:
        """Each variant has layers, which the kinds of layers are looked up by."""
        letters = [variant.letter for variant in self.variants]
        if len(set(letters)) < len(letters):
            raise ValueError(Message("variants: the letters {0} must differ", letters))
        for letter in letters:
            if letter not in self.layer_pattern:
                raise ValueError(Message("variants: layer_pattern = {0!r} has no layer {1!r}", self.layer_pattern, letter))

    def _check_variants(self) -> None:
        if len(self.layer_pattern) > self.num_layers:
            raise ValueError(
                Message(
                    "layer_pattern has {0} letters, num_layers = {1}; give one a layer, or fewer",
                    len(self.layer_pattern),
                    self.num_layers,
                )
            )
        for model in self.layer_models:  # a variant's fields are checked as a model's
            model.layer_kinds  # noqa: B018

    def _check_encoder(self) -> None:
        """An encoder in front and a decoder that attends to its output belong together; the encoder's layers come first."""
        reads = [self.of(kind).architecture == "encoder" for kind in self.layer_kinds]
        crosses = any(self.of(kind).cross_attention for kind in self.layer_kinds)
        encodes = self.architecture == "decoder" and any(reads)
        if crosses != encodes:
            raise ValueError(
                Message(
                    "cross_attention = {0}: a decoder attends to an encoder in front of it; give both, the encoder's layers as a "
                    "variant of architecture = 'encoder', or none",
                    str(crosses).lower(),
                )
            )
        if not crosses:
            return
        if sorted(reads, reverse=True) != reads or all(reads):
            raise ValueError(
                Message(
                    "layer_pattern = {0!r}: the encoder's layers come first, and the decoder's behind them", self.layer_pattern
                )
            )
        for kind in self.layer_kinds:
            m = self.of(kind)
            if m.attention == "mla" or m.mixer != "attention" or m.q_lora_rank or m.index_num_heads:
                raise ValueError("cross_attention: the planner knows it beside plain attention; use attention = 'mha' or 'gqa'")
            if m.cross_attention == (m.architecture == "encoder"):
                raise ValueError("cross_attention: of a decoder's layers all have it, of an encoder's none")

    def _check_image_attention(self) -> None:
        """Layers that attend to images stand among those of the text, and layers without weights behind one that has them."""
        shares = [self.of(kind).shared_weights for kind in self.layer_kinds]
        if any(shares) and (shares[0] or self.architecture != "encoder"):
            raise ValueError(
                "shared_weights = true: of an encoder's layers but the first; give it in [[variants]], behind another letter"
            )
        if self.image_attention:
            raise ValueError("image_attention = true: it belongs to some of the layers; give it in [[variants]]")
        for model in self.layer_models:
            if model.image_attention and (model.attention == "mla" or model.mixer != "attention" or model.cross_attention):
                raise ValueError("image_attention: the planner knows it with plain heads alone; use attention = 'mha' or 'gqa'")
        if self.reads_images and any(not tower.tokens_per_image for tower in self.towers):
            raise ValueError("image_attention: tokens_per_image is missing in [[towers]]; give the tokens that layers attend to")

    def _check_moe(self) -> None:
        if self.num_experts and self.feed_forward in ("none", "dense"):
            return
        if self.num_experts:
            if not 1 <= self.top_k <= self.num_experts:
                raise ValueError(
                    Message("top_k = {0}; a model of {1} experts needs 1 to {2}", self.top_k, self.num_experts, self.num_experts)
                )
            if self.num_dense_layers >= self.num_layers:
                raise ValueError(
                    Message(
                        "num_dense_layers = {0} leaves no MoE layer in {1} layers; set num_experts = 0 for a dense model",
                        self.num_dense_layers,
                        self.num_layers,
                    )
                )
            if self.dense_layers and max(self.dense_layers) >= self.num_layers:
                raise ValueError(
                    Message("dense_layers names layer {0}; the last one is {1}", max(self.dense_layers), self.num_layers - 1)
                )
            if not any(kind.moe for kind in self.layer_kinds):
                raise ValueError(Message("moe_every = {0} leaves no MoE layer in {1} layers", self.moe_every, self.num_layers))
            return
        for field in ("top_k", "num_shared_experts", "expert_ffn_hidden_size", "capacity_factor", "num_dense_layers"):
            if getattr(self, field):
                raise ValueError(
                    Message("{0} = {1} needs num_experts; without it the model is dense", field, getattr(self, field))
                )

    @cached_property
    def layer_models(self) -> tuple["Model", ...]:
        """The model as each of its variants has it."""
        base = self.model_dump(exclude={"variants", "layer_pattern", "provenance"})
        # pydantic's own, whose errors keep their place within an outer validation
        validated = Model.__pydantic_validator__.validate_python
        return tuple(validated(_changed(base, variant.changes), context=_OF_A_LAYER) for variant in self.variants)

    def of(self, kind: LayerKind) -> "Model":
        """The model with the fields that hold in a layer of that kind."""
        return self.layer_models[kind.variant - 1] if kind.variant and self.variants else self

    @cached_property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each layer, from first to last."""
        kinds = []
        number = {variant.letter: i + 1 for i, variant in enumerate(self.variants)}
        for i in range(self.num_layers):
            variant = number.get(self.layer_pattern[i % len(self.layer_pattern)], 0) if number else 0
            model = self.layer_models[variant - 1] if variant else self
            moe = bool(self.num_experts) and i >= self.num_dense_layers
            moe = moe and i not in self.dense_layers and (i + 1 - self.num_dense_layers) % self.moe_every == 0
            full = bool(self.full_attention_every) and (i + 1) % self.full_attention_every == 0
            full = full or i in self.full_attention_layers
            sliding = self.sliding_window is not None and i >= self.first_sliding_layer and not full and model.attends
            if model.feed_forward != "by_layer":
                moe = model.feed_forward == "experts"
            kinds.append(LayerKind(moe, sliding, self._roles[i] if self._roles else 0, variant))
        return tuple(kinds)

    def with_roles(self, roles: tuple[int, ...]) -> Self:
        """The same model with a role for each layer."""
        copy = self.model_copy()
        copy.__dict__.pop("layer_kinds", None)  # of the roles before
        copy._roles = roles
        return copy

    @property
    def reading_notes(self) -> tuple[str, ...]:
        """What its reader took for granted or left out, a sentence each."""
        return tuple(Message("{0}: {1}", self.name, self.provenance[field].source) for field in self.assumed())

    @property
    def family(self) -> str:
        """``encoder``, ``moe`` or ``dense`` (an encoder-decoder among them)."""
        return "encoder" if self.architecture == "encoder" else "moe" if self.num_experts else "dense"

    @property
    def inside_experts(self) -> "Model":
        """The model as its experts see it: the width that they read, and how many of them a token's choices really reach."""
        return self if self.expert_latent_size is None and not self.num_zero_experts else _inside_experts(self)

    @property
    def embeds(self) -> bool:
        """Whether it makes vectors alone (embeddings, scores, classes), no text: an encoder, or layers without a head."""
        return self.architecture == "encoder" or self.head != "language_model"

    @property
    def positions(self) -> int:
        """Tokens that a learned position table has rows for; 0 without one."""
        return self.max_positions - self.position_offset

    @property
    def num_encoder_layers(self) -> int:
        """Layers of the encoder in front of a decoder; 0 where there is none."""
        return sum(self.of(kind).architecture == "encoder" for kind in self.layer_kinds) if self.cross_attention else 0

    @property
    def attends(self) -> bool:
        """Whether its layers have attention to the tokens in front."""
        return (self.mixer == "attention" or self.attention_beside_mixer) and not self.image_attention

    @cached_property
    def num_image_layers(self) -> int:
        """Layers that attend to images' tokens."""
        return sum(self.of(kind).image_attention for kind in self.layer_kinds)

    @property
    def reads_images(self) -> bool:
        """Whether some layers attend to images' tokens, which are then no part of the sequence."""
        return self.num_image_layers > 0

    @property
    def tokens_per_image(self) -> int:
        """Tokens that its vision encoders make of an image; 0 where they follow its size."""
        return sum(tower.tokens_per_image or 0 for tower in self.towers)

    @property
    def recurs(self) -> bool:
        """Whether its layers keep a state instead of, or beside, keys and values."""
        return self.mixer not in ("attention", "none")

    @property
    def mixes_time(self) -> bool:
        """Whether its layers are RWKV's, each of whose projections reads its own mixture of a token and the one in front."""
        return self.mixer in ("rwkv4", "rwkv5")

    @property
    def qk_head_dim(self) -> int:
        """Width of one query or key head."""
        if self.attention == "mla":
            return int(self.qk_nope_head_dim or 0) + int(self.qk_rope_head_dim or 0)
        return self.head_dim

    @property
    def value_head_dim(self) -> int:
        """Width of one value head."""
        return self.v_head_dim or self.head_dim


_OF_A_LAYER: dict[str, bool] = {"of_a_layer": True}
"""Context of validation: the fields of one kind of layer, without the others."""


def _kind_of_heads(heads: int, kv_heads: int) -> Literal["mha", "gqa", "mqa"]:
    return "mha" if heads == kv_heads else "mqa" if kv_heads == 1 else "gqa"


def _changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A model's fields with a variant's; what follows from the heads is derived again."""
    fields = {**base, **changes}
    if base["attention"] != "mla" and "attention" not in changes:
        fields["attention"] = None
    if not fields.get("q_lora_rank"):
        fields["q_lora_rank"] = None
    return fields


@lru_cache(maxsize=256)
def _inside_experts(model: Model) -> Model:
    reached = model.top_k * model.num_experts / (model.num_experts + model.num_zero_experts)
    return model.model_copy(update={"hidden_size": model.expert_latent_size or model.hidden_size, "top_k": reached})
