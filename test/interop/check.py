"""Checkpoints between Groundswell and the Python libraries, in both directions; see README.md beside this file."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"  # everything that is loaded lies in a folder here
import safetensors.torch
import tokenizers
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

root = pathlib.Path(__file__).resolve().parents[2]
tolerance = 1e-4
texts = [
    "The quick brown fox jumps over the lazy dog.",
    "  Größe, naïve 東京 – it's 42% of 1999's\n\n\tTabs, and ends with spaces   ",
    "<|endoftext|> spelled out, emoji 👩‍👩‍👧, and a very long word: " + "antidisestablishmentarianism" * 4,
]


def groundswell(node: str, *arguments: str) -> dict:
    """Runs a command with --json and returns its last line."""
    command = [node, "bin/groundswell.mjs", *arguments, "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(node: str, folder: pathlib.Path) -> float:
    """Scores the texts on both sides; returns the largest difference of a log-probability."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    worst = 0.0
    for text in texts:
        ours = groundswell(node, "score", str(folder), "--text", text)
        # Like Groundswell, which takes special tokens in a text to score for what they are: characters.
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert ours["tokens"] == ids, f"{folder.name}: token ids differ on {text!r}:\n{ours['tokens']}\n{ids}"
        assert tokenizer.decode(ids) == text, f"{folder.name}: {text!r} does not come back"
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits.log_softmax(-1)[0, :-1]
        theirs = logprobs.gather(-1, torch.tensor(ids)[1:, None])[:, 0].tolist()
        assert ours["logprobs"][0] is None and len(ours["logprobs"]) == len(ids)
        worst = max(worst, *(abs(a - b) for a, b in zip(ours["logprobs"][1:], theirs)))
    return worst


def check_loading(folder: pathlib.Path) -> None:
    """What else the libraries have to say about a folder that Groundswell wrote."""
    _, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    problems = {key: value for key, value in report.items() if value}
    assert not problems, f"{folder.name}: transformers reports {problems}"
    transformers.GenerationConfig.from_pretrained(folder).validate(strict=True)
    weights = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    again = safetensors.torch.save(tensors, metadata={"format": "pt"})
    assert again == weights.read_bytes(), f"{folder.name}: safetensors writes other bytes for the same tensors"
    tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def make_theirs(folder: pathlib.Path, dtype: torch.dtype, tied: bool, shard: str | None) -> None:
    """A checkpoint with random weights as transformers writes it, with a tokenizer that `tokenizers` trained."""
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([" ".join(texts)] * 4, vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False)
    torch.manual_seed(7)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=304,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=256,
            rope_theta=20000.0,
            rms_norm_eps=1e-5,
            tie_word_embeddings=tied,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=0.2,
        )
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    model.to(dtype).save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    fast.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", default=str(root / "node_modules/.bin/node"))
    parser.add_argument("checkpoints", nargs="*", type=pathlib.Path, help="folders that Groundswell wrote")
    options = parser.parse_args()
    failed = False

    def report(name: str, worst: float) -> None:
        nonlocal failed
        failed |= worst > tolerance
        print(f"{'ok  ' if worst <= tolerance else 'FAIL'} {name}: log-probabilities differ by at most {worst:.1e}")

    with tempfile.TemporaryDirectory() as held:
        ours = pathlib.Path(held) / "ours"
        subprocess.run([options.node, "test/interop/write-checkpoints.ts", str(ours)], cwd=root, check=True)
        for folder in [*sorted(ours.iterdir()), *options.checkpoints]:
            check_loading(folder)
            report(f"written here, {folder.name}", compare(options.node, folder.resolve()))
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for tied in (False, True):
                for shard in (None, "50KB"):
                    name = f"{str(dtype)[6:]} {'tied' if tied else 'untied'}{' sharded' if shard else ''}"
                    folder = pathlib.Path(held) / name.replace(" ", "-")
                    make_theirs(folder, dtype, tied, shard)
                    report(f"written by transformers, {name}", compare(options.node, folder))
    sys.exit(1 if failed else 0)


main()
