"""unfurl's decoder in PyTorch, with the ways to attend and to compute the head's loss that torch_gpu.py compares."""

import json

import torch
import torch.nn.functional as F
import torch.utils.checkpoint


def read_safetensors(path, device):
    """fp32 tensors, read one after the other."""
    tensors = {}
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(8 + size + begin)
            data = torch.frombuffer(bytearray(file.read(end - begin)), dtype=torch.float32)
            tensors[name] = data.reshape(entry["shape"]).to(device)
    return tensors


def rotation(context, head_dim, base, device):
    """cos and sin, [context, head_dim], of the form that rotates halves: pair i is (x[i], x[i + head_dim / 2])."""
    half = head_dim // 2
    rates = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(context, dtype=torch.float64)[:, None] * rates
    angles = torch.cat([angles, angles], 1)
    return angles.cos().float().to(device), angles.sin().float().to(device)


def rotate(x, cos, sin):
    """x: [..., context, heads, head_dim]."""
    a, b = x.float().chunk(2, -1)
    turned = torch.cat([-b, a], -1)
    return (x.float() * cos[:, None, :] + turned * sin[:, None, :]).to(x.dtype)


def rms_norm(x, gain, eps):
    return F.rms_norm(x.float(), (x.shape[-1],), gain.float(), eps).to(x.dtype)


def sdpa(backend):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kind = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}[backend]

    def attend(q, k, v, context):
        """[tokens, heads, head_dim] each; documents of `context` tokens."""
        heads = q.shape[1]
        q, k, v = (x.view(-1, context, x.shape[1], x.shape[2]).transpose(1, 2) for x in (q, k, v))
        k, v = (x.expand(-1, heads, -1, -1) for x in (k, v)) if backend == "flash" else (k, v)
        with sdpa_kernel(kind):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=backend != "flash")
        return out.transpose(1, 2).reshape(-1, heads, q.shape[3])

    return attend


def varlen():
    from torch.nn.attention.varlen import varlen_attn

    def attend(q, k, v, context):
        starts = torch.arange(0, q.shape[0] + 1, context, dtype=torch.int32, device=q.device)
        k, v = (x.expand(-1, q.shape[1], -1).contiguous() for x in (k, v))
        try:
            return varlen_attn(q, k, v, starts, starts, context, context, window_size=(-1, 0))
        except TypeError:  # its form before windows
            return varlen_attn(q, k, v, starts, starts, context, context, is_causal=True)

    return attend


def flex():
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    masks = []

    def prepare(tokens, context, device):
        """The mask, which is not part of what is compiled."""
        masks[:] = [
            create_block_mask(
                lambda b, h, i, j: (i // context == j // context) & (j <= i), None, None, tokens, tokens, device
            )
        ]

    def attend(q, k, v, context):
        q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
        return flex_attention(q, k, v, block_mask=masks[0], enable_gqa=True)[0].transpose(0, 1)

    attend.prepare = prepare
    return attend


ATTENTION = {
    "cudnn": lambda: sdpa("cudnn"),
    "flash": lambda: sdpa("flash"),
    "math": lambda: sdpa("math"),
    "varlen": varlen,
    "flex": flex,
}


def plain_loss(hidden, weight, targets):
    return F.cross_entropy(F.linear(hidden, weight).float(), targets)


def chunked_loss(hidden, weight, targets):
    """In 8 chunks, whose logits are computed again in backward."""

    def part(rows, wanted):
        return F.cross_entropy(F.linear(rows, weight).float(), wanted, reduction="sum")

    total = 0
    for rows, wanted in zip(hidden.chunk(8), targets.chunk(8)):
        total = total + torch.utils.checkpoint.checkpoint(part, rows, wanted, use_reentrant=False)
    return total / targets.numel()


def liger_loss():
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss()
    return lambda hidden, weight, targets: loss(weight, hidden, targets)


LOSS = {"plain": lambda: plain_loss, "chunked": lambda: chunked_loss, "liger": liger_loss}


class Decoder(torch.nn.Module):
    """fp32 weights; computes in bf16 on a GPU."""

    def __init__(self, config, weights, attend, loss, device):
        super().__init__()
        self.config = config
        self.names = list(weights)
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(weights[name]) for name in self.names])
        self.attend, self.loss = attend, loss
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        cos, sin = rotation(config["context"], config["head_dim"], config["rope_base"], device)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, ids, target_rows, targets):
        """ids: [tokens] of whole documents; the mean loss over target_rows."""
        c = self.config
        w = {name: weight.to(self.dtype) for name, weight in zip(self.names, self.weights)}
        context, heads, size, ff = c["context"], c["heads"], c["head_dim"], c["ff_width"]
        attention = heads * size
        x = F.embedding(ids, w["embedding.weight"])
        for layer in range(c["layers"]):
            p = f"layers.{layer}."
            y = F.linear(rms_norm(x, w[p + "norm.weight"], c["norm_eps"]), w[p + "input.weight"])
            qk, v, gate, up = y.split([attention + size, size, ff, ff], -1)
            qk = rotate(qk.view(-1, context, heads + 1, size), self.cos, self.sin).view(-1, heads + 1, size)
            attended = self.attend(qk[:, :heads], qk[:, heads:], v.unsqueeze(1), context)
            x = x + F.linear(torch.cat([attended.reshape(-1, attention), F.silu(gate) * up], -1), w[p + "output.weight"])
        rows = x.index_select(0, target_rows)
        hidden = rms_norm(rows, w["final_norm.weight"], c["norm_eps"])
        return self.loss(hidden, w["embedding.weight"], targets)
