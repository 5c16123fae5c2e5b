#!/usr/bin/python3
"""unfurl's decoder in PyTorch, as the peer of benchmarks/train_cpu.sh.

usage: torch_cpu.py losses FOLDER STEPS [OPTIONS]   the loss of each step, one a line
       torch_cpu.py speed  FOLDER STEPS [OPTIONS]   tokens/s over STEPS steps after two more to warm up, and tokens per
                                                    second of processor time
       torch_cpu.py decode FOLDER STEPS [OPTIONS]   the same of greedy decoding, batch 1, after a prefix of 24 tokens

FOLDER is what `train_benchmark export` wrote. Options, for finding PyTorch's best form:
  --threads N        of PyTorch (the BLAS has its own variables)
  --foreach          AdamW in its foreach form
  --keep-gradients   gradients are zeroed, not freed
  --jit              the model traced (training) or scripted (decoding)
  --mv               decoding by products of a matrix and a vector
  --int8 ENGINE      decoding with weights of 8 bits, "qnnpack" or "onednn"
  --bf16             decoding with weights of bfloat16
"""

import argparse
import json
import math
import pathlib
import time

import numpy
import torch
import torch.nn.functional as F

WARM_UP = 2
PREFIX = 24


def read_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        array = numpy.frombuffer(data[begin:end], dtype=numpy.float32).reshape(entry["shape"])
        tensors[name] = torch.from_numpy(array.copy())
    return tensors


def rotation(config):
    """cos and sin, [context, head_dim], of the form that rotates halves: pair i is (x[i], x[i + head_dim / 2])."""
    half = config["head_dim"] // 2
    rates = config["rope_base"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(config["context"], dtype=torch.float64)[:, None] * rates
    angles = torch.cat([angles, angles], 1)
    return angles.cos().float(), angles.sin().float()


def rotate_half(x):
    a, b = x.chunk(2, -1)
    return torch.cat([-b, a], -1)


def rms_norm(x, gain, eps: float):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * gain


class Decoder(torch.nn.Module):
    def __init__(self, config, weights):
        super().__init__()
        self.config = config
        self.names = list(weights)
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(weights[name]) for name in self.names])
        self.cos, self.sin = (table[:, None, :] for table in rotation(config))

    def forward(self, ids, mask, target_rows, targets):
        """ids [documents, context]; mask [documents, heads * context, context], 0 or -inf; a mean loss."""
        c = self.config
        w = dict(zip(self.names, self.weights))
        documents, context = ids.shape
        heads, size, ff = c["heads"], c["head_dim"], c["ff_width"]
        attention = heads * size
        x = F.embedding(ids, w["embedding.weight"])
        for layer in range(c["layers"]):
            p = f"layers.{layer}."
            y = F.linear(rms_norm(x, w[p + "norm.weight"], c["norm_eps"]), w[p + "input.weight"])
            qk, v, gate, up = y.split([attention + size, size, ff, ff], -1)
            # Queries and the one key head turn together.
            qk = qk.view(documents, context, heads + 1, size)
            qk = qk * self.cos + rotate_half(qk) * self.sin
            # All heads share the keys and values, so their queries are rows of one matrix.
            q = qk[:, :, :heads].transpose(1, 2).reshape(documents, heads * context, size)
            scores = torch.baddbmm(mask, q, qk[:, :, heads].transpose(1, 2), alpha=1 / math.sqrt(size))
            attended = torch.bmm(scores.softmax(-1), v)
            attended = attended.view(documents, heads, context, size).transpose(1, 2).reshape(documents, context, -1)
            x = x + F.linear(torch.cat([attended, F.silu(gate) * up], -1), w[p + "output.weight"])
        rows = x.view(documents * context, -1)[target_rows]
        logits = F.linear(rms_norm(rows, w["final_norm.weight"], c["norm_eps"]), w["embedding.weight"])
        return F.cross_entropy(logits, targets)


def rates(run, tokens):
    wall, used = time.perf_counter(), time.process_time()
    run()
    return f"{tokens / (time.perf_counter() - wall):.1f} {tokens / (time.process_time() - used):.1f}"


class Trainer:
    def __init__(self, folder, options):
        work = json.loads((folder / "work.json").read_text())
        config, adamw = work["model"], work["optimizer"]
        self.model = Decoder(config, read_safetensors(folder / "weights.safetensors"))
        self.rates = work["learning_rates"]
        self.clip_norm = adamw["clip_norm"]
        self.keep_gradients = options.keep_gradients
        parameters = list(self.model.parameters())
        decayed = [p for p in parameters if p.dim() > 1]
        rest = [p for p in parameters if p.dim() == 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": adamw["weight_decay"]}, {"params": rest, "weight_decay": 0}],
            betas=(adamw["beta1"], adamw["beta2"]),
            eps=adamw["eps"],
            foreach=options.foreach,
        )
        self.batches = [self.tensors(config, batch) for batch in work["batches"]]
        self.run_model = self.model
        if options.jit:
            self.run_model = torch.jit.trace(self.model, self.batches[0], check_trace=False)
        self.done = 0

    @staticmethod
    def tensors(config, batch):
        context = config["context"]
        prefixes = torch.tensor(batch["prefix_lengths"])
        row = torch.arange(context)
        seen = (row[None, :] <= row[:, None]) | (
            (row[:, None] < prefixes[:, None, None]) & (row[None, :] < prefixes[:, None, None])
        )
        mask = torch.zeros(seen.shape).masked_fill(~seen, -math.inf).repeat(1, config["heads"], 1)
        ids = torch.tensor(batch["ids"]).view(-1, context)
        return ids, mask, torch.tensor(batch["target_rows"]), torch.tensor(batch["targets"])

    @property
    def tokens(self):
        return self.batches[0][0].numel()

    def step(self):
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[self.done]
        self.optimizer.zero_grad(set_to_none=not self.keep_gradients)
        loss = self.run_model(*self.batches[self.done % len(self.batches)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.done += 1
        return loss.item()


class Linear(torch.nn.Module):
    """A product with one row, [1, in] to [1, out]."""

    def __init__(self, weight, options):
        super().__init__()
        self.weight = weight.to(torch.bfloat16) if options.bf16 else weight
        self.mv: bool = options.mv
        self.bf16: bool = options.bf16

    def forward(self, x):
        if self.mv:
            return torch.mv(self.weight, x[0])[None]
        if self.bf16:
            return F.linear(x.to(torch.bfloat16), self.weight).to(torch.float32)
        return F.linear(x, self.weight)


def linear(weight, options):
    """PyTorch rounds the activations too, anew in each product."""
    if not options.int8:
        return Linear(weight, options)
    torch.backends.quantized.engine = options.int8
    module = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False))
    module[0].weight = torch.nn.Parameter(weight)
    config = torch.ao.quantization.per_channel_dynamic_qconfig
    return torch.ao.quantization.quantize_dynamic(module, {"": config}, dtype=torch.qint8)[0]


class Block(torch.nn.Module):
    def __init__(self, config, gain, input, output, options):
        super().__init__()
        self.heads: int = config["heads"]
        self.size: int = config["head_dim"]
        self.ff: int = config["ff_width"]
        self.eps: float = config["norm_eps"]
        self.gain = gain
        self.input = linear(input, options)
        self.output = linear(output, options)
        self.keys = torch.zeros(config["context"], self.size)
        self.values = torch.zeros(config["context"], self.size)

    def forward(self, x, cos, sin, position: int):
        y = self.input(rms_norm(x, self.gain, self.eps))
        attention = self.heads * self.size
        qk, v, gate, up = y.split([attention + self.size, self.size, self.ff, self.ff], -1)
        qk = qk.view(self.heads + 1, self.size)
        qk = qk * cos + rotate_half(qk) * sin
        self.keys[position] = qk[self.heads]
        self.values[position] = v[0]
        scores = torch.mm(qk[: self.heads], self.keys[: position + 1].t()) * (1 / math.sqrt(self.size))
        attended = torch.mm(scores.softmax(-1), self.values[: position + 1]).view(1, attention)
        return x + self.output(torch.cat([attended, F.silu(gate) * up], -1))


class Generator(torch.nn.Module):
    def __init__(self, folder, options):
        super().__init__()
        config = json.loads((folder / "work.json").read_text())["model"]
        w = read_safetensors(folder / "weights.safetensors")
        self.eps: float = config["norm_eps"]
        self.embedding = w["embedding.weight"]
        self.head = linear(self.embedding, options)
        self.gain = w["final_norm.weight"]
        self.cos, self.sin = rotation(config)
        self.blocks = torch.nn.ModuleList()
        for layer in range(config["layers"]):
            p = f"layers.{layer}."
            gain, input, output = (w[p + name + ".weight"] for name in ("norm", "input", "output"))
            self.blocks.append(Block(config, gain, input, output, options))

    def forward(self, token: int, position: int):
        x = self.embedding[token][None]
        cos, sin = self.cos[position], self.sin[position]
        for block in self.blocks:
            x = block(x, cos, sin, position)
        return self.head(rms_norm(x, self.gain, self.eps))


@torch.inference_mode()
def check_generator(generator, folder, ids, tolerance):
    """The step-by-step logits of the last token against the training model's."""
    work = json.loads((folder / "work.json").read_text())
    model = Decoder(work["model"], read_safetensors(folder / "weights.safetensors"))
    for position, token in enumerate(ids):
        logits = generator(token, position)
    mask = torch.full((len(ids), len(ids)), -math.inf).triu(1).repeat(1, work["model"]["heads"], 1)
    model.cos, model.sin = model.cos[: len(ids)], model.sin[: len(ids)]
    rows, targets = torch.tensor([len(ids) - 1]), torch.tensor([17])
    expected = model(torch.tensor([ids]), mask, rows, targets).item()
    found = F.cross_entropy(logits, targets).item()
    assert abs(found - expected) < tolerance * expected, (found, expected)


@torch.inference_mode()
def decode(folder, steps, options):
    generator = Generator(folder, options).eval()
    if options.jit:
        generator = torch.jit.script(generator)
    ids = json.loads((folder / "work.json").read_text())["batches"][0]["ids"][:PREFIX]
    check_generator(generator, folder, ids, 0.01 if options.int8 or options.bf16 else 1e-4)

    def run():
        token = ids[-1]
        for position in range(PREFIX, PREFIX + steps):
            token = int(generator(token, position).argmax())

    run()
    return rates(run, steps)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("mode", choices=["losses", "speed", "decode"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--foreach", action="store_true")
    parser.add_argument("--keep-gradients", action="store_true")
    parser.add_argument("--jit", action="store_true")
    parser.add_argument("--mv", action="store_true")
    parser.add_argument("--int8", choices=["qnnpack", "onednn"])
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.mode == "decode":
        print(decode(options.folder, options.steps, options))
        return
    trainer = Trainer(options.folder, options)
    if options.mode == "losses":
        for _ in range(options.steps):
            print(f"{trainer.step():.9g}", flush=True)
        return
    for _ in range(WARM_UP):
        trainer.step()

    def run():
        for _ in range(options.steps):
            trainer.step()

    print(rates(run, options.steps * trainer.tokens))


if __name__ == "__main__":
    main()
