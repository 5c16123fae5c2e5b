#!/usr/bin/env python3
"""unfurl's decoder in PyTorch on a GPU, in PyTorch's strongest forms, as the peer of scripts/gpu_check.sh.

usage: torch_gpu.py forms                     the names of the forms of training, one a line
       torch_gpu.py train FOLDER FORM         the form's losses against FOLDER/losses, then tokens/s
       torch_gpu.py decode PRESET             ms a token of greedy decoding at batch 1, 4 and 8
       torch_gpu.py kernels PRESET            single operations: norms, SwiGLU, attention, cross-entropy, AdamW

FOLDER is what `train_gpu_benchmark export` wrote, and in FOLDER/losses what `train_gpu_benchmark losses` printed.
Weights are trained in fp32 and computed with in bf16. Steps are timed by CUDA events, 30 after 10 to warm up; single
operations with the L2 cache filled with other data before each run. What fails is one line: "FORM: failed: why".
--cpu runs the same on the CPU, in small and without times, to find mistakes where there is no GPU.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import sys

try:
    import torch
    import torch.nn.functional as F

    from torch_gpu_model import ATTENTION, LOSS, Decoder, read_safetensors, rms_norm, rotate, rotation

    no_torch = ""
except (ImportError, OSError) as error:  # a library that it needs, too
    no_torch = f"{error}".splitlines()[0]

WARM_UP, TIMED, COMPARED = 10, 30, 20
TOLERANCE = 1e-2
PRESETS = {  # width, layers, heads, head_dim; one key and value head, feed-forward 4 width
    "palm-tiny": (128, 4, 2, 64),
    "palm-125m": (768, 12, 12, 64),
    "palm-350m": (1024, 22, 8, 128),
    "palm-1b": (2048, 18, 16, 128),
}
VOCAB = 32000

# How the model is compiled, what attends, how the head's loss is computed. Dense forms see documents of equal length as
# a batch, and all but `flex` see them causally: their losses differ from ours where a prefix sees both ways, so what is
# compared has none.
FORMS = {
    "max-autotune+cudnn": ("max-autotune-no-cudagraphs", "cudnn", "plain"),
    "max-autotune+flash": ("max-autotune-no-cudagraphs", "flash", "plain"),
    "max-autotune+cudnn+chunked": ("max-autotune-no-cudagraphs", "cudnn", "chunked"),
    "max-autotune-graphs+cudnn": ("max-autotune", "cudnn", "plain"),
    "reduce-overhead+cudnn": ("reduce-overhead", "cudnn", "plain"),
    "max-autotune+varlen": ("max-autotune-no-cudagraphs", "varlen", "plain"),
    "max-autotune+flex": ("max-autotune-no-cudagraphs", "flex", "plain"),
    "max-autotune+cudnn+step-graph": ("max-autotune-no-cudagraphs", "cudnn", "plain"),
    "max-autotune+cudnn+liger": ("max-autotune-no-cudagraphs", "cudnn", "liger"),
    "eager+flash": (None, "flash", "plain"),
}


def say(text):
    print(text, flush=True)


def reason(error):
    """The first line that says something, short."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


class Trainer:
    def __init__(self, folder, form, device):
        compiled, attention, loss = FORMS[form]
        if device.type == "cpu":
            attention = "math"
        work = json.loads((folder / "work.json").read_text())
        adamw = work["optimizer"]
        self.rates, self.clip_norm = work["learning_rates"], adamw["clip_norm"]
        weights = read_safetensors(folder / "weights.safetensors", device)
        attend = ATTENTION[attention]()
        if hasattr(attend, "prepare"):
            attend.prepare(len(work["batches"][0]["ids"]), work["model"]["context"], device)
        self.model = Decoder(work["model"], weights, attend, LOSS[loss](), device)
        parameters = list(self.model.parameters())
        on_gpu = device.type == "cuda"
        self.rate = torch.tensor(self.rates[0], dtype=torch.float32, device=device)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.dim() > 1], "weight_decay": adamw["weight_decay"]},
                {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0},
            ],
            lr=self.rate if on_gpu else self.rates[0],
            betas=(adamw["beta1"], adamw["beta2"]),
            eps=adamw["eps"],
            fused=on_gpu,
            capturable=on_gpu,
        )
        self.batches = [
            [torch.tensor(batch[key], device=device) for key in ("ids", "target_rows", "targets")]
            for batch in work["batches"]
        ]
        self.inputs = [x.clone() for x in self.batches[0]]  # what every step reads: a graph is bound to it
        self.run_model = self.model
        if compiled is not None:
            self.run_model = torch.compile(self.model, mode=compiled, fullgraph=True, dynamic=False)
        self.graph = None
        self.whole_step = form.endswith("step-graph")
        # What a graph is captured from must have run on the graph's stream before.
        self.stream = torch.cuda.Stream() if self.whole_step else None
        self.done = 0
        self.loss = None

    @property
    def tokens(self):
        return self.inputs[0].numel()

    def compute(self):
        self.optimizer.zero_grad(set_to_none=not self.whole_step)
        loss = self.run_model(*self.inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm, foreach=True)
        self.optimizer.step()
        return loss.detach()

    def step(self):
        if self.stream is None:
            return self.run_step()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            loss = self.run_step()
        torch.cuda.current_stream().wait_stream(self.stream)
        return loss

    def run_step(self):
        for to, new in zip(self.inputs, self.batches[self.done % len(self.batches)]):
            to.copy_(new)
        if self.rate.is_cuda:
            self.rate.fill_(self.rates[self.done])
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rates[self.done]
        if self.whole_step and self.graph is None and self.done == 3:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.loss = self.compute()
        if self.graph is not None:
            self.graph.replay()
        else:
            torch.compiler.cudagraph_mark_step_begin()
            self.loss = self.compute()
        self.done += 1
        return self.loss.clone()


def peak_flops(name):
    for part, tflops in (("H100 PCIe", 756), ("H100 NVL", 835), ("H200 NVL", 835), ("H100", 989), ("H200", 989), ("A100", 312)):
        if part in name:
            return tflops * 1e12
    return 0


def flops_per_token(config):
    """6 N + 6 L T d, with the weights of products alone: the embedding counts once, as the head."""
    width, attention = config["width"], config["heads"] * config["head_dim"]
    weights = config["layers"] * width * (attention + 2 * config["head_dim"] + 2 * config["ff_width"])
    weights += config["layers"] * width * (attention + config["ff_width"]) + config["vocab_size"] * width
    return 6 * weights + 6 * config["layers"] * config["context"] * attention


def train(folder, form, device):
    try:
        trainer = Trainer(folder, form, device)
        losses = [trainer.step() for _ in range(COMPARED)]
        found = [loss.item() for loss in losses]
        expected = [float(line) for line in (folder / "losses").read_text().split()][:COMPARED]
        greatest = max(abs(a - b) / abs(b) for a, b in zip(found, expected))
        same = "agree" if greatest <= TOLERANCE else "DIFFER"
        say(f"{form}: losses {same}: {found[0]:.4f} ... {found[-1]:.4f}, greatest relative difference {greatest:.1e}")
        if device.type != "cuda":
            return greatest <= TOLERANCE
        for _ in range(WARM_UP):
            trainer.step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(TIMED):
            trainer.step()
        end.record()
        end.synchronize()
        seconds = start.elapsed_time(end) * 1e-3 / TIMED
        config = trainer.model.config
        peak = peak_flops(torch.cuda.get_device_name())
        rate = trainer.tokens / seconds
        mfu = f"{100 * rate * flops_per_token(config) / peak:.1f} %" if peak else "n/a"
        memory = torch.cuda.max_memory_reserved() / 2**30
        say(f"{form}: {rate:.1f} tokens/s, step {seconds * 1e3:.2f} ms, MFU {mfu}, peak memory {memory:.1f} GiB")
        return greatest <= TOLERANCE
    except Exception as error:  # the next form runs
        say(f"{form}: failed: {reason(error)}")
        return device.type == "cuda"


# --- single operations ---


class Timer:
    """Median seconds of 20 runs after 5, by CUDA events, the L2 cache filled with other data before each. On the CPU it
    runs once, and the answer is None."""

    def __init__(self, device):
        self.flushed = torch.empty(256 << 20, dtype=torch.int8, device=device) if device.type == "cuda" else None

    def __call__(self, run):
        if self.flushed is None:
            run()
            return None
        times = []
        for i in range(25):
            self.flushed.fill_(i)
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            times.append((start, end))
        torch.cuda.synchronize()
        return statistics.median(start.elapsed_time(end) for start, end in times[5:]) * 1e-3


def kernels(preset, device):
    """Whether all that the CPU runs did; what a GPU cannot run is a line."""
    width, layers, heads, size = PRESETS[preset]
    on_gpu = device.type == "cuda"
    ff, tokens = 4 * width, 8192 if on_gpu else 1024
    timer = Timer(device)
    failed = []
    compiled = functools.partial(torch.compile, mode="max-autotune-no-cudagraphs", fullgraph=True, dynamic=False)
    if not on_gpu:
        compiled = lambda function: function  # noqa: E731
    random = functools.partial(torch.randn, device=device, dtype=torch.bfloat16)

    def row(name, shape, run, bytes=0, flops=0):
        try:
            seconds = timer(run())
            if seconds is None:
                say(f"{name:34} {shape:26} simulated")
                return
            rate = f"{bytes / seconds * 1e-12:6.3f} TB/s" if bytes else ""
            rate += f"{flops / seconds * 1e-12:8.1f} TFLOP/s" if flops else ""
            say(f"{name:34} {shape:26} {seconds * 1e6:10.1f} us  {rate}")
        except Exception as error:
            failed.append(name)
            say(f"{name:34} {shape:26} failed: {reason(error)}")
        torch.cuda.empty_cache()

    def gradients(outputs, inputs, cotangents):
        return lambda: torch.autograd.grad(outputs, inputs, cotangents, retain_graph=True)

    shape, elements = f"{tokens}x{width}", tokens * width

    def norm_inputs():
        return [random(tokens, width, requires_grad=True) for _ in range(2)] + [random(width, requires_grad=True)]

    @compiled
    def norm(x, r, gain):
        s = x + r
        return s, rms_norm(s, gain, 1e-6)

    def norm_forward():
        with torch.no_grad():
            x, r, gain = (t.detach() for t in norm_inputs())
        return lambda: norm(x, r, gain)

    def norm_backward():
        inputs = norm_inputs()
        outputs = norm(*inputs)
        return gradients(outputs, inputs, [random(tokens, width) for _ in range(2)])

    row("rms_norm forward, residual: compile", shape, norm_forward, 8 * elements)
    row("rms_norm backward: compile", shape, norm_backward, 8 * elements)

    shape, inner = f"{tokens}x{ff}", tokens * ff

    @compiled
    def swiglu(gate, up):
        return F.silu(gate) * up

    def swiglu_inputs():
        return [random(tokens, ff, requires_grad=True) for _ in range(2)]

    def swiglu_forward():
        gate, up = (t.detach() for t in swiglu_inputs())
        return lambda: swiglu(gate, up)

    def swiglu_backward():
        inputs = swiglu_inputs()
        return gradients(swiglu(*inputs), inputs, random(tokens, ff))

    row("swiglu forward: compile", shape, swiglu_forward, 6 * inner)
    row("swiglu backward: compile", shape, swiglu_backward, 10 * inner)

    @compiled
    def entropy(logits, targets):
        return F.cross_entropy(logits.float(), targets)

    def entropy_both():
        logits = random(tokens, VOCAB, requires_grad=True)
        targets = torch.randint(VOCAB, (tokens,), device=device)
        return lambda: torch.autograd.grad(entropy(logits, targets), logits)

    row("cross_entropy + gradient: compile", f"{tokens}x{VOCAB}", entropy_both, 4 * tokens * VOCAB)

    for context in (128, 256, 512):
        pairs = tokens * context / 2
        q_bytes, k_bytes = 2 * tokens * heads * size, 2 * tokens * size
        for name in ("cudnn", "flash", "varlen") if on_gpu else ("math", "flash"):

            def inputs():
                return [random(tokens, n, size, requires_grad=True) for n in (heads, 1, 1)]

            def forward():
                attend = ATTENTION[name]()
                q, k, v = (t.detach() for t in inputs())
                return lambda: attend(q, k, v, context)

            def backward():
                attend = ATTENTION[name]()
                qkv = inputs()
                return gradients(attend(*qkv, context), qkv, random(tokens, heads, size))

            shape = f"T {context} h {heads}/1 d {size}"
            row(f"attention forward: {name}", shape, forward, 2 * q_bytes + 2 * k_bytes, 4 * pairs * heads * size)
            row(f"attention backward: {name}", shape, backward, 4 * q_bytes + 4 * k_bytes, 10 * pairs * heads * size)

    count = layers * width * (heads * size + 2 * size + 2 * ff + heads * size + ff) + VOCAB * width

    def adamw():
        weight = torch.nn.Parameter(torch.randn(count, device=device))
        weight.grad = torch.randn(count, device=device)
        optimizer = torch.optim.AdamW([weight], lr=torch.tensor(1e-3, device=device), fused=on_gpu, capturable=on_gpu)
        return optimizer.step

    row("adamw fused, fp32, no copy", f"{count} parameters", adamw, 28 * count)
    return on_gpu or not failed


# --- decoding ---


def decode(preset, device):
    width, layers, heads, size = PRESETS[preset]
    on_gpu = device.type == "cuda"
    ff, context, prefix, steps = 4 * width, 256, 24, 96 if on_gpu else 4
    good = True
    attention = heads * size
    dtype = torch.bfloat16
    torch.manual_seed(1)

    def weight(*shape):
        return torch.randn(*shape, device=device, dtype=dtype) * 0.02

    embedding = weight(VOCAB, width)
    blocks = [
        (torch.ones(width, device=device, dtype=dtype), weight(attention + 2 * size + 2 * ff, width), weight(width, attention + ff))
        for _ in range(layers)
    ]
    gain = torch.ones(width, device=device, dtype=dtype)
    cos, sin = rotation(context, size, 10000, device)
    read = embedding.numel() + sum(b.numel() for block in blocks for b in block)
    for batch in (1, 4, 8):
        cache = torch.zeros(layers, 2, batch, 1, context, size, device=device, dtype=dtype)
        rows = torch.arange(context, device=device)

        def step(token, position):
            """token: [batch]; position: [1]; the next token."""
            x = F.embedding(token, embedding)
            mask = (rows <= position)[None, None, None, :]
            for layer, (norm_gain, into, out) in enumerate(blocks):
                y = F.linear(rms_norm(x, norm_gain, 1e-6), into)
                qk, v, gate, up = y.split([attention + size, size, ff, ff], -1)
                qk = rotate(qk.view(batch, 1, heads + 1, size), cos[position], sin[position])
                keys, values = cache[layer, 0], cache[layer, 1]
                keys.index_copy_(2, position, qk[:, :, heads:].transpose(1, 2))
                values.index_copy_(2, position, v.view(batch, 1, 1, size))
                q = qk[:, :, :heads].transpose(1, 2)
                attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)
                x = x + F.linear(torch.cat([attended.reshape(batch, attention), F.silu(gate) * up], -1), out)
            return F.linear(rms_norm(x, gain, 1e-6), embedding).argmax(-1)

        modes = (("compile max-autotune", "max-autotune"), ("compile reduce-overhead", "reduce-overhead"))
        for name, mode in modes if on_gpu else (("eager", None),):
            try:
                torch.compiler.reset()
                run = torch.compile(step, mode=mode, fullgraph=True, dynamic=False) if on_gpu else step
                with torch.inference_mode():
                    token = torch.zeros(batch, dtype=torch.int64, device=device)
                    position = torch.zeros(1, dtype=torch.int64, device=device)

                    def decode_all():
                        for i in range(prefix, prefix + steps):
                            position.fill_(i)
                            torch.compiler.cudagraph_mark_step_begin()
                            token.copy_(run(token, position))

                    for _ in range(2):
                        decode_all()
                    if not on_gpu:
                        say(f"{preset} batch {batch} {name}: simulated")
                        continue
                    times = []
                    for _ in range(5):
                        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                        start.record()
                        decode_all()
                        end.record()
                        end.synchronize()
                        times.append(start.elapsed_time(end) / steps)
                milliseconds = statistics.median(times)
                bandwidth = 2 * read / milliseconds * 1e3
                say(f"{preset} batch {batch} {name}: {milliseconds:.3f} ms a token, weights at {bandwidth * 1e-12:.2f} TB/s")
            except Exception as error:
                good = on_gpu
                say(f"{preset} batch {batch} {name}: failed: {reason(error)}")
    return good


class Parser(argparse.ArgumentParser):
    """A mistake is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def main():
    parser = Parser(prog="torch_gpu", usage=__doc__.split("usage: ", 1)[1], description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["forms", "train", "decode", "kernels"])
    parser.add_argument("what", nargs="?", help="FOLDER or PRESET")
    parser.add_argument("form", nargs="?", choices=list(FORMS))
    parser.add_argument("--verbose", action="store_true", help="what PyTorch's compiler says, too")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, without times: the losses in fp32; single operations and decoding in small")
    options = parser.parse_args()
    if options.mode == "forms":
        print("\n".join(FORMS))
        return 0
    if options.what is None or (options.mode == "train" and options.form is None):
        parser.error("FOLDER and FORM, or PRESET, are missing")
    if options.mode != "train" and options.what not in PRESETS:
        parser.error(f"unknown preset {options.what}; known are {', '.join(PRESETS)}")
    if no_torch:
        print(f"torch_gpu: this Python has no PyTorch that can be used: {no_torch}; nothing was run", file=sys.stderr)
        return 2
    device = torch.device("cpu" if options.cpu else "cuda")
    if not options.cpu and not torch.cuda.is_available():
        print("torch_gpu: PyTorch sees no GPU; nothing was run", file=sys.stderr)
        return 2
    if not options.verbose:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_float32_matmul_precision("high")
    if options.mode == "train":
        good = train(pathlib.Path(options.what), options.form, device)
    else:
        good = {"decode": decode, "kernels": kernels}[options.mode](options.what, device)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
