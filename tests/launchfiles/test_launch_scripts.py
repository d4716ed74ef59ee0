"""Shell scripts that start a training: branches, strings that are run, scripts within scripts, files that they write."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import planner
from planner.launchfiles import Launch, read_launch
from planner.launchfiles.shell import read_script

H100 = {"accelerator": "h100-sxm5-80gb"}
MODEL = (
    "--num-layers 32 --hidden-size 4096 --num-attention-heads 32 --vocab-size 50304 --seq-length 2048 "
    "--max-position-embeddings 2048"
)


def first(text: str, **files: str) -> list[str]:
    """The words of the only command."""
    script = read_script(text, lambda name: files.get(name.partition(".")[0]))
    assert len(script.commands) == 1, script.commands
    return script.commands[0]


def read(tmp_path: Path, **files: str) -> Launch:
    """The scripts of these names; the first one is asked."""
    for name, text in files.items():
        (tmp_path / f"{name}.sh").write_text(text)
    return read_launch([tmp_path / f"{next(iter(files))}.sh"], cluster=H100)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("if [ $A = b ]; then X=1; elif [[ $A == a* ]]; then X=2; else X=3; fi\n", "2"),
        ("if [ $A = b ]\nthen\n  X=1\nelse\n  X=3\nfi\n", "3"),
        ("if [ $N -gt 4 ] && [ $A = aa ]; then X=1; else X=2; fi\n", "1"),
        ("if [ $N -gt 4 ] && [ $A = b ]; then X=1; else X=2; fi\n", "2"),
        ("if [[ $A == b || $N -le 8 ]]; then X=1; else X=2; fi\n", "1"),
        ("if [ -z ${UNSET} ]; then X=1; fi\n", "1"),
        ('X=0; if [ -n "$UNSET" ]; then X=1; fi\n', "0"),
        ("X=0; if ! [ $A = aa ]; then X=1; fi\n", "0"),
        ('X=0; if [ ! "$A" = b ]; then X=1; fi\n', "1"),
        ("X=0; [ $A = b ] && X=1\n", "0"),
        ("X=0; [ $A = b ] || X=1\n", "1"),
        ("X=0; test $N -eq 8 && X=1\n", "1"),
        ("case $A in\n  b) X=1;;\n  a*|c) X=2 ;;\n  *) X=3;;\nesac\n", "2"),
        ("case $N in 7) X=1;; *) X=3;; esac\n", "3"),
        ("if [ $A = b ]; then if [ $A = aa ]; then X=1; fi; X=2; else X=4; fi\n", "4"),
        ("X=1\nwhile [[ $# -gt 0 ]]; do\n  case $1 in\n    --x)\n      X=$2\n      shift 2\n      ;;\n  esac\ndone\n", "1"),
        ("X=1; while read L; do X=2; done < file\n", "2"),
        ("for X in 1 2 3; do true_$X; done\n", "3"),
        ("X=${UNSET:-${N}}\n", "8"),
        ("X=${A:+set}${UNSET:+unset}\n", "set"),
        ("X=0; if [ ! ]; then X=1; fi\n", "1"),
        ("X=0; [ ! ] && X=1\n", "1"),
        ("X=0; if [ ]; then X=1; fi\n", "0"),
        ("X=0; [ ] || X=1\n", "1"),
        ("X=0; if [[ ]]; then X=1; fi\n", "0"),
        ('X=0; if [ "$A" = "a*" ]; then X=1; fi\n', "0"),
        ("X=0; if [ $A = a* ]; then X=1; fi\n", "0"),
        ('X=0; if [[ "$A" == "a*" ]]; then X=1; fi\n', "0"),
        ('X=0; if [[ "$A" == "a"* ]]; then X=1; fi\n', "1"),
        ("X=0; if [[ $A == 'a'? ]]; then X=1; fi\n", "1"),
        ("X=0; P='a*'; if [[ $A == $P ]]; then X=1; fi\n", "1"),
        ("X=0; P='a*'; if [[ $A == \"$P\" ]]; then X=1; fi\n", "0"),
        ("X=0; if [[ $A != \\a\\* ]]; then X=1; fi\n", "1"),
        ('case $A in "a*") X=1;; [a]"a") X=2;; esac\n', "2"),
    ],
)
def test_a_branch_that_is_decided_is_the_only_one(text: str, words: str) -> None:
    """Bash prints the same; a loop's last value holds."""
    script = read_script(f"A=aa\nN=8\n{text}\nrun $X\n")
    assert script.commands[-1] == ["run", words]
    assert not script.undecided


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    "text",
    [
        "A=a\nif [ $A = a ]; then L=(--tp 1); else L=(--tp 2); fi\nrun ${L[@]}\n",
        "if [ 1 -gt 2 ]; then L=(--tp 1); fi\nL+=(--pp 2)\nrun ${L[@]}\n",
        "L=(4 'a b' 16)\nrun ${L[1]} \"${L[1]}\" ${L[2]}x\n",
        "run --a 1 >/dev/null\nrun 2 2>/dev/null\nrun 3 2>&1 | cat\nrun 4 &>/dev/null\nrun 5 < /dev/null 2>&1\n",
        "N=2; run --gbs $((8 * N)) --lr 1e-4 # run 3 \\\nrun 4\n",
        'run a\\ b \'c\\d\' "e\\f\\$" "g\\\nh" i\\\nj # k\n',
        'A=\'x  y\'\nrun $A "$A" "$A $A"\nB=$A\nrun "$B"\n',
        'A=8\nrun "${A} ${A}"--${A}x ${B:-1 2} ${A:+--b}\n',
        "if [[ 3 > 2 ]] && [ 1 -eq 1 ]; then X=1; fi; run ${X:-1}\n",
        "A=1 && { run $A; }\n(run 2; run 3)\n",
        "run 'if' then fi 2>&1; 'run' done\n",
        "f=$(cat <<E\n()\nE\n)\nrun 1\n",
        "case x in (a|x) run 1;; *) run 2;; esac\n",
        "A=(1 2 4); I=2\nrun ${A[-1]} ${A[$I]} ${A[I]} ${A[I - 1]} ${A[@]:1} ${A[@]:0:2} $A ${A[7]} ${A[7]:-8} ${A[@]:-9}\n",
        "A=(1 2 4)\nA[1]=9; A[3]='5 6'; A[-1]+=7; A+=(x)\nrun \"${A[@]}\"\nA=0\nrun ${A[@]}\n",
        "M=a/b-c.d-e\nrun ${M##*/} ${M#*-} ${M%-*} ${M%%.*} ${M:2} ${M:0:1} ${M%x} ${M+1} ${M:+2}\n",
        'set -- \nf() { :; }\nA=(); B=\nrun "${B-1}" "${B:-2}" "${B+3}" "${B:+4}" ${A[@]} $A ${A[0]:-5}\n',
        "TP=4; TP=1 true prepare; run $TP\nTP=2 eval 'run $TP'\nTP=3 X=1 true\nrun $TP ${X:-0}\nTP=5\nrun $TP\n",
        "A=(1 2)\nA+=3\nrun ${A[@]}\nA=7 true\nB=8 >/dev/null\nexport C=9\nrun $B $C\n",
        "A=-7; run $((A / 2)) $((7 / -2)) $((A % 4)) $((7 % -4)) $((-8 / -3)) $((-A))\n",
        "cat > /dev/null <<A; cat <<-B > /dev/null; run $((1 + 1))\nrun 3\nA\n\trun 4\n\tB\nrun 5\n",
    ],
)
def test_words_are_those_that_bash_hands_over(text: str) -> None:
    told = 'run() { printf "%s\\n" run "$@" --end >&3; }\n'
    bash = subprocess.run(["bash", "-c", f"exec 3>&1\n{told}{text}"], capture_output=True, text=True, check=True)
    told_of = [[*words, "--end"] for words in read_script(text).commands if words[0] == "run"]
    assert [word for words in told_of for word in words] == bash.stdout.splitlines()


@pytest.mark.parametrize(
    "written",
    [
        "${X/a/b}",
        "${X^^}",
        "${X%[a]}",
        "${X: -1}",
        "${#A[@]}",
        "${!X}",
        "${A[y]}",
        "${A[-9]}",
        "${M[y]}",
        "${M[@]}",
        "${@:0}",
        "${X@Q}",
        "$((7 // 2))",
        "$((2 ** 2))",
        "$((1 / 0))",
    ],
)
def test_what_is_not_understood_stays_as_it_is_written(written: str) -> None:
    text = f'X=ab; A=(1 2 4); declare -A M=([x]=4 [y]=8)\nM[y]=2\nrun "{written}"\n'
    assert read_script(text).commands == [["run", written]]


def test_a_variable_before_a_command_is_around_that_command_alone() -> None:
    text = "NPROC_PER_NODE=2 torchrun prepare\nA=1 run\nexport NPROC_PER_NODE=8\nrun\nbash -c 'NPROC_PER_NODE=4; run'\nrun\n"
    around = read_script(text, variables=["NPROC_PER_NODE"]).around
    assert [one.get("NPROC_PER_NODE") for one in around] == ["2", None, "8", "4", "8"]


def test_what_is_to_be_filled_in_is_a_word() -> None:
    assert read_script("run --model <NAME> --tp 2\n").commands == [["run", "--model", "<NAME>", "--tp", "2"]]


def test_what_only_arguments_decide_is_said_and_all_is_read() -> None:
    script = read_script('if [ "$1" = large ]; then N=80; else N=32; fi\nrun $N\n')
    assert script.commands == [["run", "32"]]
    assert script.undecided == ["$1 = large"]


@pytest.mark.parametrize(
    "text",
    [
        'CMD="run --a 1"\neval $CMD\n',
        "CMD='run --a 1'\nbash -c \"$CMD\"\n",
        "A='--a 1'\nexport A\nsh -xc 'run $A'\n",
        "OPTIONS=('--a 1')\nrun ${OPTIONS[@]}\n",
        'L=(--a 1)\nCMD="run ${L[@]}"\n$CMD\n',
        "L=--a\nM=$L\nM+=' 1'\nrun $M\n",
        "bash inner.sh --a 1\n",
        "A=1\nsource ./inner.sh --a 1\n",
        "A=1\nbash <<EOF\nrun --a \\$A\nEOF\n",
    ],
)
def test_what_is_run_by_a_string_a_list_or_another_script(text: str) -> None:
    inner = "run ${1:---a} ${2:-$A}\n"
    assert first(text, inner=inner, **{"": inner}) == ["run", "--a", "1"]


def test_a_script_that_is_started_again_has_its_own_arguments_alone() -> None:
    """As bash: a child's $1, $2, $@ and variables end with it, and $1 of the script around it stays its own."""
    inner = 'SIZE=$1\nrun $1 ${2:-none} "$@"\n'
    text = "bash inner.sh 8B 8\nbash inner.sh 70B\nrun ${SIZE:-unset} ${1:-one}\n"
    assert read_script(text, lambda name: inner).commands == [
        ["run", "8B", "8", "8B", "8"],
        ["run", "70B", "none", "70B"],
        ["run", "unset", "one"],
    ]
    outer = "bash inner.sh 8B 8\nrun ${1} ${2:-none}\n"
    files = {"outer.sh": outer, "inner.sh": inner}
    assert read_script("bash outer.sh 1B\n", files.get).commands[-1] == ["run", "1B", "none"]


def test_a_script_that_is_sourced_shares_its_variables_not_its_arguments() -> None:
    files = {"env.sh": "SIZE=$1\n", "outer.sh": "source env.sh 8B\nrun $SIZE $1\n", "same.sh": "source env.sh\nrun $SIZE\n"}
    assert read_script("bash outer.sh 1B\n", files.get).commands == [["run", "8B", "1B"]]
    assert read_script("bash same.sh 1B\n", files.get).commands == [["run", "1B"]]


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("bash inner.sh -c conf.yaml\n", [["run", "-c", "conf.yaml"]]),
        ("bash -x inner.sh -c conf.yaml\n", [["run", "-c", "conf.yaml"]]),
        ("bash -euo pipefail inner.sh -c conf.yaml\n", [["run", "-c", "conf.yaml"]]),
        ("bash -euo pipefail -c 'go $1 $2' name a b\n", [["go", "a", "b"]]),
        ("srun -N 4 bash inner.sh a\n", [["srun", "-N", "4", "run", "a"]]),
        ("sbatch -c 8 --nodes=2 inner.sh a\n", [["sbatch", "-c", "8", "--nodes=2", "run", "a"]]),
        ("bash -c\n", [["bash", "-c"]]),
        ("bash other -c conf.yaml\n", [["bash", "other", "-c", "conf.yaml"]]),
    ],
)
def test_a_shell_runs_its_first_word_that_is_no_option(text: str, commands: list[list[str]]) -> None:
    assert read_script(text, {"inner.sh": 'run "$@"\n'}.get).commands == commands


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("cat > f <<E\na\nE\ncat >> f <<E\nb\nE\n", {"f": "a\nb\n"}),
        ("cat >>f <<E\nb\nE\n", {"f": "b\n"}),
        ("cat > f <<E\na\nE\ncat > f <<E\nb\nE\n", {"f": "b\n"}),
        ("tee f <<E\na\nE\ntee -a f <<E\nb\nE\n", {"f": "a\nb\n"}),
        ("sudo tee f > /dev/null <<E\na\nE\n", {"f": "a\n", "/dev/null": "a\n"}),
        ("cat 2> log > f <<E\na\nE\n", {"f": "a\n"}),
    ],
)
def test_a_here_document_adds_to_a_file_or_begins_it(text: str, written: dict[str, str]) -> None:
    assert read_script(text).written == written


def test_a_script_that_starts_itself_comes_to_an_end() -> None:
    assert len(read_script("bash inner.sh\n", lambda name: "bash inner.sh\nrun\n").commands) < 20


def test_a_here_document_is_a_file_that_is_written() -> None:
    script = read_script("N=4\ncat <<EOT > ds_$N.json\n{\"a\": $N, 'b': \"x\"}\nEOT\ncat > raw.json <<'EOT'\n$N\nEOT\n")
    assert script.written == {"ds_4.json": '{"a": 4, \'b\': "x"}\n', "raw.json": "$N\n"}


@pytest.mark.parametrize("text", ["<<E\na\nE\n", "X='run <<here-document-7'\nbash -c \"$X\"\n", "sh -c 'cat <<E > f\na\nE\n'\n"])
def test_here_documents_that_lead_nowhere(text: str) -> None:
    assert len(read_script(text).commands) <= 1


def test_the_file_that_a_script_writes_for_deepspeed_is_read(tmp_path: Path) -> None:
    text = (
        "ZERO=2\ncat <<EOF > ds.json\n"
        '{"train_micro_batch_size_per_gpu": 4, "zero_optimization": {"stage": $ZERO}, "fp16": {"enabled": true}}\nEOF\n'
        f"deepspeed --num_gpus 8 pretrain_gpt.py {MODEL} --micro-batch-size 4 --global-batch-size 64 --fp16 "
        "--deepspeed --deepspeed_config ds.json --checkpoint-activations\n"
    )
    found = read(tmp_path, run=text)
    assert found.tables["layout"] == {"micro_batch_size": 4, "zero": 2, "recompute": "full"}
    assert found.tables["framework"]["name"] == "deepspeed-zero"
    assert (found.not_understood, found.unmodelled) == ((), ())
    assert planner.plan(**found.tables, explain=False).num_gpus == 8


def test_experts_of_megatron_deepspeed(tmp_path: Path) -> None:
    """One expert is a dense model; more stand in every second layer, one for each token (its megatron/arguments.py)."""
    text = (
        f"deepspeed --num_gpus 8 pretrain_gpt.py {MODEL} --micro-batch-size 1 --global-batch-size 8 --fp16 --deepspeed "
        "--no-pipeline-parallel --num-experts {0} --moe-expert-parallel-size {1} --moe-train-capacity-factor 1.25\n"
    )
    experts = read(tmp_path, run=text.format(16, 8)).tables
    named = {name: experts["model"][name] for name in ("num_experts", "top_k", "moe_every", "capacity_factor")}
    assert named == {"num_experts": 16, "top_k": 1, "moe_every": 2, "capacity_factor": 1.25}
    assert experts["layout"]["ep"] == 8
    planner.plan(**experts, explain=False)
    dense = read(tmp_path, run=text.format(1, 1)).tables
    assert not {"num_experts", "top_k", "moe_every", "capacity_factor"} & set(dense["model"])
    assert "ep" not in dense["layout"]
    planner.plan(**dense, explain=False)


OF_EXPERTS = (
    f"torchrun --nproc_per_node 8 pretrain_gpt.py {MODEL} --micro-batch-size 1 --global-batch-size 8 --bf16 --num-experts 8 "
    "--moe-router-topk 2 --expert-model-parallel-size 8 "
)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--moe-expert-capacity-factor 1.25", True),  # allgather is what Megatron takes where no dispatcher is named
        ("--moe-expert-capacity-factor 1.25 --moe-token-dispatcher-type allgather", True),
        ("--moe-expert-capacity-factor 1.25 --moe-token-dispatcher-type alltoall", False),
        ("--moe-expert-capacity-factor 1.25 --moe-pad-expert-input-to-capacity --moe-token-dispatcher-type alltoall", False),
        ("--moe-token-dispatcher-type allgather", False),
        ("", False),
    ],
)
def test_a_capacity_that_many_releases_of_megatron_refuse_is_told(options: str, told: bool, tmp_path: Path) -> None:
    """transformer_config.py: moe_expert_capacity_factor only with the alltoall dispatcher."""
    found = read(tmp_path, run=f"{OF_EXPERTS} {options}\n")
    assert any("moe-expert-capacity-factor" in str(note) for note in found.notes) == told
    assert planner.plan(**found.tables, explain=False).num_gpus == 8


@pytest.mark.parametrize("more", ["", "--moe-token-dispatcher-type alltoall"])
def test_padding_to_a_capacity_that_is_not_given_is_refused(more: str, tmp_path: Path) -> None:
    """transformer_config.py: moe_pad_expert_input_to_capacity needs a capacity factor; of a dense model it says nothing."""
    pads = f"--moe-pad-expert-input-to-capacity {more}\n"
    with pytest.raises(planner.PlannerError, match="without a capacity"):
        read(tmp_path, run=OF_EXPERTS + pads)
    read(tmp_path, run=OF_EXPERTS.partition("--num-experts")[0] + pads)


def test_a_script_of_ones_own_with_megatrons_options_is_megatrons(tmp_path: Path) -> None:
    """Pai-Megatron-Patch starts pretrain_llama.py and its like with options in variables that may not be set."""
    inner = (
        "PR=$1\nTP=${2}\nif [ $PR = fp16 ]; then\n  pr_options='--fp16'\nelif [ $PR = bf16 ]; then\n  pr_options='--bf16'\nfi\n"
        f'options="{MODEL} --micro-batch-size 1 --global-batch-size 64 --tensor-model-parallel-size $TP --disable-bias-linear"\n'
        'run_cmd="torchrun --nproc_per_node 8 pretrain_llama.py $options ${dataset_option} ${pr_options} ${load_options}"\n'
        "echo ${run_cmd}\neval ${run_cmd}\n"
    )
    found = read(tmp_path, mine="bash train.sh bf16 4\n", train=inner)
    assert found.tools == ("torchrun", "Megatron-LM arguments")
    assert (found.tables["layout"]["tp"], found.tables["job"]["precision"]) == (4, "bf16")
    assert found.tables["model"]["ffn_bias"] is False  # no variable that is not set has become the flag's value
    assert [line.partition(" ")[0] for line in found.not_understood] == ["${dataset_option}", "${load_options}"]
    alone = read(tmp_path, train=inner)
    assert any("$1 = fp16; $1 = bf16" in note for note in alone.notes)
    assert "--tensor-model-parallel-size = ${2} (train.sh): nothing in it sets this variable" in alone.not_understood


def test_slurm_starts_a_process_for_each_gpu(tmp_path: Path) -> None:
    text = (
        "#SBATCH <OPTIONS> --nodes=4 --exclusive --ntasks-per-node=8\n"
        f"options='{MODEL} --micro-batch-size 1 --global-batch-size 64 --fp16'\n"
        'srun -l --container-image "x" sh -c "python -u $DIR/pretrain_gpt.py $@ ${options}"\n'
    )
    assert read(tmp_path, run=text).tables["cluster"] == {**H100, "num_gpus": 32}
    tasks = f"srun -N 2 -n 16 python pretrain_gpt.py {MODEL} --micro-batch-size 1 --global-batch-size 64\n"
    assert read(tmp_path, run=tasks).tables["cluster"] == {**H100, "num_gpus": 16}


def test_the_tokenizer_says_the_vocabulary_that_sizes_leave_out(tmp_path: Path) -> None:
    sizes = MODEL.replace("--vocab-size 50304 ", "").replace("--num-layers 32", "--num-layers 33")
    start = f"torchrun --nproc_per_node 8 pretrain_gpt.py {sizes} --micro-batch-size 1 --global-batch-size 64 --bf16"
    named = read(tmp_path, run=f"{start} --tokenizer-type HuggingFaceTokenizer --tokenizer-model deepseek-ai/DeepSeek-V3\n")
    assert named.tables["model"]["vocab_size"] == 129_280
    assert read(tmp_path, run=f"{start}\n").tables["model"]["vocab_size"] == 50_257  # pretrain_gpt.py: GPT2BPETokenizer
    with pytest.raises(planner.PlannerError, match=r"model\.vocab_size is missing"):
        read(tmp_path, run=f"{start} --tokenizer-type Llama2Tokenizer --tokenizer-model /data/tokenizer.model\n")


def test_what_a_missing_length_depends_on_is_said(tmp_path: Path) -> None:
    text = f"torchrun --nproc_per_node 8 pretrain_gpt.py {MODEL.replace('--seq-length 2048 ', '')} --seq-length $7\n"
    with pytest.raises(planner.PlannerError, match=r"nothing sets the variable of --seq-length = \$7"):
        read(tmp_path, run=text)
