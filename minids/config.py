"""One run, as frozen dataclasses: model, data, training, in the words of the released config.json.

A preset or TOML file fills the sections, `--set section.field=value` changes single fields, and
every value is checked against its range here, before torch is imported or a file is written.

Each field carries `axis · meaning, unit`; axis letters are those of the whole package (README).
Field names are Hugging Face's DeepSeek names where those exist.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from minids.errors import UserError

PRESETS = Path(__file__).parent / "presets"
LARGEST_FILE_BYTES = 1 << 20  # a config is a page of text, not a data set


def bounded(default: Any, low: float, high: float, meaning: str) -> Any:
    """A number with its range; `meaning` is shown by `minids config show`."""
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning})


def one_of(default: str, choices: str, meaning: str) -> Any:
    """A word out of a blank-separated list."""
    return field(default=default, metadata={"choices": choices.split(), "meaning": meaning})


def free(default: Any, meaning: str) -> Any:
    """A value without a range: text, a flag, a list of whole numbers."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture: everything that changes a parameter's shape or the function computed."""

    architecture: str = free("minids", "name of the system this describes, for tables")
    vocab_size: int = bounded(2048, 2, 10_000_000, "V · tokens in the vocabulary")
    hidden_size: int = bounded(256, 1, 65_536, "d · width of the residual stream")
    num_hidden_layers: int = bounded(4, 1, 1_000, "transformer blocks, MTP modules not counted")
    rms_norm_eps: float = bounded(1e-6, 0.0, 1.0, "added to the mean square in RMSNorm")
    tie_word_embeddings: bool = free(False, "output head shares the embedding's weights")
    initializer_range: float = bounded(
        0.02, 0.0, 10.0, "deviation of initial weights; 0: 1/sqrt(inputs)"
    )
    zero_init_output: bool = free(False, "start o_proj, down_proj, lm_head at zero")
    max_position_embeddings: int = bounded(4096, 1, 1 << 30, "longest sequence, tokens")

    # attention
    attention: str = one_of(
        "mla", "mla gqa csa", "latent · grouped (MHA, MQA included) · V4, counted only"
    )
    num_attention_heads: int = bounded(4, 1, 4_096, "h · query heads")
    num_key_value_heads: int = bounded(
        4, 1, 4_096, "g · key/value heads of gqa: h is MHA, 1 is MQA"
    )
    head_dim: int = bounded(64, 1, 4_096, "width of a gqa head")
    attention_bias: bool = free(False, "bias on the gqa query, key and value projections")
    use_qk_norm: bool = free(False, "RMSNorm on query and key heads (mla: queries, rotated key)")
    partial_rotary_factor: float = bounded(1.0, 0.0, 1.0, "share of a gqa head that RoPE rotates")
    q_lora_rank: int = bounded(0, 0, 65_536, "q · width of the query latent; 0 means a full q_proj")
    kv_lora_rank: int = bounded(64, 1, 65_536, "c · d_c, width of the cached latent")
    qk_nope_head_dim: int = bounded(32, 1, 4_096, "n · head channels without position")
    qk_rope_head_dim: int = bounded(16, 2, 4_096, "r · head channels that RoPE turns")
    v_head_dim: int = bounded(32, 1, 4_096, "v · value channels of a head")

    # position
    rope_theta: float = bounded(10_000.0, 2.0, 1e12, "base of the rotation frequencies")
    rope_interleave: bool = free(True, "pairs (0,1),(2,3)…; false pairs i with i + r/2")
    rope_type: str = one_of(
        "default", "default yarn llama3", "how frequencies are stretched to long context"
    )
    rope_factor: float = bounded(1.0, 1.0, 10_000.0, "stretching: context multiplied by this")
    original_max_position_embeddings: int = bounded(
        4096, 1, 1 << 30, "stretching: context trained at, tokens"
    )
    beta_fast: float = bounded(
        32.0, 0.01, 10_000.0, "stretching: turns above which a frequency is kept"
    )
    beta_slow: float = bounded(1.0, 0.01, 10_000.0, "stretching: turns below which it is divided")
    mscale: float = bounded(1.0, 0.0, 10.0, "YaRN: length correction of cos and sin")
    mscale_all_dim: float = bounded(0.0, 0.0, 10.0, "YaRN: length correction of the softmax scale")

    # feed-forward and experts
    intermediate_size: int = bounded(512, 1, 1_000_000, "f · width of a dense SwiGLU")
    moe_intermediate_size: int = bounded(128, 1, 1_000_000, "f · width of one expert")
    n_routed_experts: int = bounded(0, 0, 65_536, "e · routed experts; 0 means dense layers only")
    n_shared_experts: int = bounded(0, 0, 1_024, "experts every token visits")
    num_experts_per_tok: int = bounded(1, 1, 1_024, "k · routed experts per token")
    first_k_dense_replace: int = bounded(0, 0, 1_000, "leading layers that stay dense")
    moe_layer_freq: int = bounded(1, 1, 1_000, "every n-th layer after those has experts")
    topk_method: str = one_of(
        "noaux_tc", "greedy group_limited_greedy noaux_tc", "V2: greedy ones · V3: noaux_tc"
    )
    scoring_func: str = one_of(
        "sigmoid", "softmax sigmoid sqrtsoftplus", "router affinity: V2 · V3 · V4"
    )
    n_group: int = bounded(1, 1, 4_096, "groups of experts (one per device or node)")
    topk_group: int = bounded(1, 1, 4_096, "groups a token may reach")
    norm_topk_prob: bool = free(True, "divide the chosen weights by their sum")
    routed_scaling_factor: float = bounded(1.0, 0.0, 1_000.0, "factor on the routed weights")
    bias_update_speed: float = bounded(0.001, 0.0, 1.0, "γ of V3: step of the selection bias")
    aux_loss_alpha: float = bounded(
        0.0001, 0.0, 10.0, "balance loss: per sequence (V3), per expert (V2)"
    )
    device_loss_alpha: float = bounded(0.0, 0.0, 10.0, "V2: device balance loss, α₂")
    comm_loss_alpha: float = bounded(0.0, 0.0, 10.0, "V2: communication balance loss, α₃")

    # multi-token prediction
    num_nextn_predict_layers: int = bounded(0, 0, 64, "u · MTP modules, one more token ahead each")
    mtp_loss_weight: float = bounded(0.3, 0.0, 10.0, "λ · weight of the mean MTP loss")

    # sparse and V4 parts, for counting and planning
    index_n_heads: int = bounded(0, 0, 4_096, "V3.2: heads of the indexer; 0 means dense attention")
    index_head_dim: int = bounded(128, 1, 4_096, "V3.2: width of an indexer head")
    index_topk: int = bounded(2048, 1, 1 << 20, "V3.2: tokens the indexer keeps")
    sliding_window: int = bounded(0, 0, 1 << 20, "V4: recent tokens always seen")
    compress_ratios: list[int] = free((), "V4: tokens per compressed entry, one number per layer")
    o_groups: int = bounded(1, 1, 4_096, "V4: groups of the output projection")
    o_lora_rank: int = bounded(0, 0, 65_536, "V4: width of one output group")
    hc_mult: int = bounded(0, 0, 64, "V4: residual streams; 0 means a plain residual")
    num_hash_layers: int = bounded(0, 0, 1_000, "V4: leading layers routed by token id")
    swiglu_limit: float = bounded(0.0, 0.0, 1e6, "V4: clamp inside SwiGLU; 0 means none")

    @property
    def qk_head_dim(self) -> int:
        """Channels of one query or key head."""
        return (
            self.qk_nope_head_dim + self.qk_rope_head_dim
            if self.attention == "mla"
            else self.head_dim
        )

    @property
    def rotary_dim(self) -> int:
        """Channels of a head that RoPE turns."""
        if self.attention == "mla":
            return self.qk_rope_head_dim
        return int(self.head_dim * self.partial_rotary_factor) if self.attention == "gqa" else 64

    def is_moe_layer(self, layer: int) -> bool:
        """Whether block `layer` (from 0) holds experts."""
        if self.n_routed_experts == 0 or layer < self.first_k_dense_replace:
            return False
        return (layer + 1 - self.first_k_dense_replace) % self.moe_layer_freq == 0

    def __post_init__(self) -> None:
        check_ranges("model", self)
        where = "model."
        if self.attention == "gqa" and self.num_attention_heads % self.num_key_value_heads:
            raise UserError(
                where + "num_key_value_heads",
                f"{self.num_key_value_heads} do not divide {self.num_attention_heads} query heads",
                f"divisors of {self.num_attention_heads}",
            )
        if self.rotary_dim % 2:
            name = "qk_rope_head_dim" if self.attention == "mla" else "head_dim"
            raise UserError(
                where + name, f"{self.rotary_dim} is odd; RoPE turns pairs", "even numbers"
            )
        if self.rope_type == "llama3" and self.beta_fast <= self.beta_slow:
            raise UserError(
                where + "beta_fast",
                f"{self.beta_fast} turns; llama3 blends between beta_slow and beta_fast",
                f"more than beta_slow = {self.beta_slow}",
            )
        if self.attention == "csa" and len(self.compress_ratios) != self.num_hidden_layers:
            raise UserError(
                where + "compress_ratios",
                f"{len(self.compress_ratios)} numbers for {self.num_hidden_layers} layers",
                "one number per layer",
            )
        if self.n_routed_experts == 0:
            return
        e, k = self.n_routed_experts, self.num_experts_per_tok
        if e % self.n_group:
            raise UserError(
                where + "n_group",
                f"{e} experts do not split into {self.n_group} equal groups",
                f"divisors of {e}",
            )
        if self.topk_group > self.n_group:
            raise UserError(
                where + "topk_group",
                f"{self.topk_group} of {self.n_group} groups",
                f"1 … {self.n_group}",
            )
        reachable = self.topk_group * (e // self.n_group)
        if k > reachable:
            what = (
                f"{k} of {reachable} reachable experts" if reachable < e else f"{k} of {e} experts"
            )
            raise UserError(where + "num_experts_per_tok", what, f"1 … {reachable}")
        if self.topk_method == "noaux_tc" and self.n_group > 1 and e // self.n_group < 2:
            raise UserError(
                where + "n_group",
                "V3 scores a group by its two best experts, here a group has one",
                f"1 … {e // 2}",
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is read, how it becomes tokens, how long a training sequence is."""

    name: str = free(
        "tales", "tales · stdlib · text (needs data.path) · hf:NAME (streamed from the hub)"
    )
    path: str = free("", "text, JSONL or parquet file, or a folder of them")
    text_field: str = free("text", "column of JSONL and parquet rows")
    tokenizer: str = free("auto", "auto · tales · byte · char · bpe · path of a tokenizer folder")
    context: int = bounded(256, 2, 1 << 20, "s · tokens in a training sequence")
    documents: int = bounded(20_000, 10, 1 << 30, "documents generated or streamed")
    held_out: float = bounded(0.05, 0.0001, 0.5, "share of documents never trained on")
    seed: int = bounded(1, 0, (1 << 63) - 1, "of generated text and of the split")

    def __post_init__(self) -> None:
        check_ranges("data", self)
        known = ("tales", "stdlib", "text")
        if self.name not in known and not self.name.startswith("hf:"):
            raise UserError(
                "data.name", f"{self.name!r} is unknown", "tales, stdlib, text, hf:NAME"
            )
        if self.name == "text" and not self.path:
            raise UserError(
                "data.path", "data.name is text but no path is given", "a file or folder"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the weights are found."""

    max_steps: int = bounded(1000, 1, 1 << 40, "optimizer steps")
    max_minutes: float = bounded(
        0.0, 0.0, 1e6, "stop and decay by the clock instead; 0 means by steps"
    )
    batch_size: int = bounded(16, 1, 1 << 20, "b · sequences per micro-batch, over all workers")
    grad_accum: int = bounded(1, 1, 1 << 16, "micro-batches per optimizer step")
    optimizer: str = one_of("muon", "muon adamw", "muon: matrices by Muon, the rest by AdamW")
    lr: float = bounded(3e-3, 0.0, 100.0, "peak learning rate of AdamW's parameters")
    muon_lr: float = bounded(
        2e-2, 0.0, 100.0, "peak learning rate of Muon's matrices, RMS-matched to AdamW"
    )
    momentum: float = bounded(0.95, 0.0, 0.9999, "Muon's momentum (Nesterov)")
    beta1: float = bounded(0.9, 0.0, 0.9999, "AdamW, mean of gradients")
    beta2: float = bounded(0.95, 0.0, 0.99999, "AdamW, mean of squares")
    adam_eps: float = bounded(1e-8, 0.0, 1.0, "AdamW, added to the root")
    weight_decay: float = bounded(0.1, 0.0, 10.0, "decoupled, matrices only")
    max_grad_norm: float = bounded(
        1.0, 0.0, 1e9, "global norm gradients are clipped to; 0 means never"
    )
    warmup_steps: int = bounded(20, 0, 1 << 30, "steps of linear warm-up")
    decay_share: float = bounded(0.4, 0.0, 1.0, "last share of the run that decays")
    decay_shape: str = one_of("linear", "linear cosine", "curve of that decay")
    min_lr_ratio: float = bounded(0.0, 0.0, 1.0, "learning rate at the end, share of the peak")
    eval_every: int = bounded(
        200, 0, 1 << 40, "steps between held-out losses; 0 means at the end only"
    )
    eval_documents: int = bounded(200, 1, 1 << 30, "held-out documents per evaluation")
    save_every: int = bounded(200, 0, 1 << 40, "steps between checkpoints; 0 means at the end only")
    keep: int = bounded(3, 2, 1 << 20, "newest checkpoints kept")
    log_every: int = bounded(10, 1, 1 << 30, "steps between printed lines")
    sample_every_seconds: float = bounded(5.0, 0.0, 1e6, "between live samples; 0 means none")
    precision: str = one_of(
        "auto",
        "auto float32 bfloat16 fp8 fp8-sim",
        "of matrix products; auto asks the machine, fp8-sim simulates fp8 anywhere",
    )
    moment_dtype: str = one_of(
        "float32", "float32 bfloat16", "of optimizer moments; DeepSeek-V3: bfloat16"
    )
    threads: int = bounded(0, 0, 1_024, "of each worker; 0 asks the machine")
    workers: int = bounded(0, 0, 64, "one-thread data-parallel processes; 0 asks the machine")
    compile: bool = free(False, "torch.compile the model")
    activation_checkpointing: str = one_of(
        "off", "off full", "full: blocks keep their inputs alone, compute the rest again"
    )
    device: str = one_of("auto", "auto cpu cuda mps", "where tensors live")
    spike_factor: float = bounded(
        6.0, 0.0, 1e6, "deviations above the recent loss that count as a spike; 0 never"
    )
    max_skips: int = bounded(3, 1, 1 << 20, "skipped steps in a row before the guard rolls back")
    max_rollbacks: int = bounded(2, 0, 1 << 20, "rollbacks before the guard stops the run (exit 3)")
    seed: int = bounded(1, 0, (1 << 63) - 1, "of weights, data order and samples")

    def __post_init__(self) -> None:
        check_ranges("train", self)
        if not self.max_minutes and self.warmup_steps > self.max_steps:
            raise UserError(
                "train.warmup_steps",
                f"{self.warmup_steps} of {self.max_steps} steps",
                f"0 … {self.max_steps}",
            )


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How a run is spread over processes (used from several processes on)."""

    data: int = bounded(1, 1, 1 << 20, "data-parallel ranks (FSDP)")
    expert: int = bounded(1, 1, 1 << 20, "expert-parallel ranks")
    pipeline: int = bounded(1, 1, 1 << 12, "ranks of a pipeline")
    schedule: str = one_of(
        "1f1b", "gpipe 1f1b interleaved zb1p dualpipev", "in which order a pipeline works"
    )
    checkpoint: str = one_of(
        "whole", "whole sharded", "files gathered on rank 0 · a file of each rank's part"
    )
    timeout_s: int = bounded(300, 1, 86_400, "a rank that says nothing for so long is lost, s")

    def __post_init__(self) -> None:
        check_ranges("parallel", self)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run."""

    name: str = "run"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)

    def __post_init__(self) -> None:
        if self.data.context > self.model.max_position_embeddings:
            raise UserError(
                "data.context",
                f"{self.data.context} tokens, the model reads {self.model.max_position_embeddings}",
                f"2 … {self.model.max_position_embeddings}",
            )
        depth = self.model.num_nextn_predict_layers
        if self.data.context <= depth:
            what = f"{self.data.context} tokens, MTP looks {depth} further"
            raise UserError("data.context", what, f"{depth + 1} and more")


SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "data": DataConfig,
    "train": TrainConfig,
    "parallel": ParallelConfig,
}


def check_ranges(section: str, config: Any) -> None:
    """Hold every field against its metadata; the first that fails is the error."""
    for f in dataclasses.fields(config):
        value, meta = getattr(config, f.name), f.metadata
        if "choices" in meta and value not in meta["choices"]:
            near = difflib.get_close_matches(str(value), meta["choices"], 1)
            hint = f"did you mean {near[0]}?" if near else ""
            raise UserError(
                f"{section}.{f.name}",
                f"{value!r} is unknown",
                ", ".join(meta["choices"]),
                hint=hint,
            )
        if "low" in meta and not meta["low"] <= value <= meta["high"]:  # NaN is in no range
            raise UserError(f"{section}.{f.name}", f"{value} is out of range", span(meta))


def span(meta: Any) -> str:
    """The allowed values of one field, as text."""
    if "choices" in meta:
        return ", ".join(meta["choices"])
    if "low" in meta:
        return f"{meta['low']:,} … {meta['high']:,}"
    return "any"


def coerce(where: str, value: Any, kind: Any) -> Any:
    """A TOML or command-line value as the field's type; never guesses between types."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise UserError(where, f"{value!r} is not a flag", "true, false")
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            try:
                return int(value.replace("_", ""), 10)
            except ValueError:
                pass
        raise UserError(where, f"{value!r} is not a whole number", "whole numbers")
    if kind is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                raise UserError(where, "has too many digits", "numbers") from None
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                pass
        raise UserError(where, f"{value!r} is not a number", "numbers")
    if kind == list[int]:
        if isinstance(value, str):
            value = [v for v in value.strip("[]").split(",") if v.strip()]
        if isinstance(value, list | tuple):
            return tuple(coerce(where, v, int) for v in value)
        raise UserError(where, f"{value!r} is not a list", "whole numbers in brackets")
    if isinstance(value, str):
        return value
    raise UserError(where, f"{value!r} is not text", "text in quotes")


def load(source: str = "tiny", overrides: list[str] | tuple[str, ...] = ()) -> RunConfig:
    """A preset name or a TOML file, changed by `section.field=value` overrides.

    Raises UserError for anything a person can mistype.
    """
    tables = read_toml(find(source))
    label = source if not source.endswith(".toml") else Path(source).stem
    for text in overrides:
        section, name, value = split_override(text)
        tables.setdefault(section, {})[name] = value
    return build(tables, label)


def find(source: str) -> Path:
    """The file behind a preset name or path."""
    if source.endswith(".toml") or "/" in source or "\\" in source:
        return Path(source)
    path = PRESETS / f"{source}.toml"
    if not path.is_file():
        near = difflib.get_close_matches(source, presets(), 1)
        hint = f"did you mean {near[0]}?" if near else "a file of your own ends in .toml"
        raise UserError("config", f"no preset {source!r}", ", ".join(presets()), hint=hint)
    return path


def presets() -> list[str]:
    """Names of all presets that ship with the package."""
    return sorted(p.stem for p in PRESETS.glob("*.toml"))


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as nested dicts; a config is data and is never executed."""
    if path.suffix != ".toml":
        raise UserError(
            "config", f"{path} is not a TOML file", "a preset name or a file ending in .toml"
        )
    if not path.is_file():
        raise UserError("config", f"{path} is not a readable file", "a preset name or a TOML file")
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise UserError(
            "config", f"{path} has {path.stat().st_size:,} bytes", f"up to {LARGEST_FILE_BYTES:,}"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise UserError(f"config {path}", f"{error}", "UTF-8 TOML") from error


def split_override(text: str) -> tuple[str, str, str]:
    """`train.lr=1e-3` → ("train", "lr", "1e-3"); `lr=1e-3` works where one section has the name."""
    key, eq, value = text.partition("=")
    key = key.strip()
    if not eq or not key:
        raise UserError("--set", f"{text!r} has no value", "section.field=value")
    section, dot, name = key.partition(".")
    if dot:
        return section, name, value.strip()
    owners = [
        s for s, kind in SECTIONS.items() if key in {f.name for f in dataclasses.fields(kind)}
    ]
    if len(owners) == 1:
        return owners[0], key, value.strip()
    allowed = ", ".join(f"{s}.{key}" for s in owners) or "section.field=value"
    raise UserError(
        "--set", f"{key!r} belongs to {len(owners) or 'no'} sections", allowed, hint=suggestion(key)
    )


def suggestion(name: str) -> str:
    """The nearest known field, as a hint."""
    known = {
        f.name: f"{s}.{f.name}" for s, kind in SECTIONS.items() for f in dataclasses.fields(kind)
    }
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {known[near[0]]}?" if near else ""


def build(tables: dict[str, Any], label: str = "run") -> RunConfig:
    """Nested dicts → RunConfig; unknown sections, unknown fields and wrong types are errors."""
    sections = {}
    for section, table in tables.items():
        if section == "name" and isinstance(table, str):
            label = table
            continue
        if section not in SECTIONS:
            near = difflib.get_close_matches(section, SECTIONS, 1)
            hint = f"did you mean [{near[0]}]?" if near else ""
            raise UserError(section, "unknown section", ", ".join(SECTIONS), hint=hint)
        if not isinstance(table, dict):
            raise UserError(section, f"{table!r} is not a section", f"[{section}] with fields")
        kinds = get_type_hints(SECTIONS[section])
        values = {}
        for name, value in table.items():
            if name not in kinds:
                raise UserError(
                    f"{section}.{name}",
                    "unknown field",
                    f"fields of [{section}]",
                    hint=suggestion(name),
                )
            values[name] = coerce(f"{section}.{name}", value, kinds[name])
        sections[section] = SECTIONS[section](**values)
    return RunConfig(name=label, **sections)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """All values, nested as in TOML; lists for tuples."""
    return {
        "name": config.name,
        **{
            section: {
                f.name: list(v)
                if isinstance(v := getattr(getattr(config, section), f.name), tuple)
                else v
                for f in dataclasses.fields(kind)
            }
            for section, kind in SECTIONS.items()
        },
    }


def to_toml(config: RunConfig) -> str:
    """The resolved config as TOML that `load` reads back to an equal RunConfig."""
    tables = to_dict(config)
    lines = [f"name = {quote(tables.pop('name'))}"]
    for section, table in tables.items():
        lines += ["", f"[{section}]"] + [
            f"{name} = {quote(value)}" for name, value in table.items()
        ]
    return "\n".join(lines) + "\n"


def quote(value: Any) -> str:
    """One TOML value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = (
            value.replace("\\", "\\\\")
            .replace('"', '\\"')
            .replace("\n", "\\n")
            .replace("\t", "\\t")
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(quote(v) for v in value) + "]"
    return repr(value)
