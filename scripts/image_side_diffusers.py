#!/usr/bin/env python3
"""The real image side: images by a diffusers pipeline, embeddings by open_clip, aesthetics by a linear head or MLP.

    scripts/image_side_diffusers.py --model stabilityai/sdxl-turbo --steps 1 --guidance 0 --device cuda \\
        --clip ViT-L-14 --clip-weights openai --aesthetic-head improved_mlp_l14.safetensors --images out/images

It speaks the protocol of train/image_side/protocol.h on its standard input and output, so `unfurl` runs it as the
command of an image side. What libraries print goes to standard error. An image depends on its own request alone: not on
the batch it came in.

Needs torch, diffusers, transformers, open_clip_torch and Pillow; nothing of it is imported before it is used.
"""
import argparse
import array
import collections
import hashlib
import json
import math
import os
import pathlib
import struct
import sys


class Mistake(Exception):
    """The user's: one line, exit code 2."""


def need(module, package=None):
    """The imported module, or one line that says what to install."""
    try:
        return __import__(module)
    except ImportError as error:
        raise Mistake(f"the image side needs the Python package {package or module}, which cannot be imported here "
                      f"({error}); try: pip install {package or module}") from error


# The aesthetic head. Its layers have no activations between them, so all of them together are one affine function.

def read_safetensors(path):
    """{name: (shape, floats)} of a file whose tensors are all F32."""
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise Mistake(f"cannot read {path}: {error.strerror}") from error
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8:8 + length])
        tensors = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            count = math.prod(entry["shape"])
            if entry["dtype"] != "F32" or end - start != 4 * count or 8 + length + end > len(data) or start < 0:
                raise ValueError(f"tensor {name} is not float32 or not whole")
            values = array.array("f")
            values.frombytes(data[8 + length + start:8 + length + end])
            if sys.byteorder == "big":
                values.byteswap()
            tensors[name] = (entry["shape"], values)
        return tensors
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Mistake(f"{path} is no safetensors file that can be used: {error}") from error


class Head:
    """score = weight . embedding + bias over unit-norm image embeddings."""

    def __init__(self, path):
        tensors = read_safetensors(path)
        names = [("weight", "bias")]
        if "weight" not in tensors:
            count = 0
            while f"layers.{count}.weight" in tensors:
                count += 1
            names = [(f"layers.{i}.weight", f"layers.{i}.bias") for i in range(count)]
        if not names or any(name not in tensors for pair in names for name in pair):
            raise Mistake(f"{path} holds no aesthetic head: neither weight and bias nor layers.0.weight, layers.0.bias, ...")
        # From the last layer to the first: row = row * W, bias += row . b.
        self.weight, self.bias = [1.0], 0.0
        for weight_name, bias_name in reversed(names):
            shape, weight = tensors[weight_name]
            offset = tensors[bias_name][1]
            if len(shape) != 2 or shape[0] != len(self.weight) or len(offset) != shape[0]:
                raise Mistake(f"{path}: {weight_name} has shape {shape}, which does not fit its bias or the next layer")
            self.bias += sum(a * b for a, b in zip(self.weight, offset))
            row = [0.0] * shape[1]
            for i, factor in enumerate(self.weight):
                part = weight[i * shape[1]:(i + 1) * shape[1]]
                row = [a + factor * b for a, b in zip(row, part)]
            self.weight = row
        self.digest = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16]

    def score(self, embedding):
        return sum(a * b for a, b in zip(self.weight, embedding)) + self.bias


def unit(values):
    length = math.sqrt(sum(v * v for v in values))
    if not math.isfinite(length) or length == 0:
        raise ValueError("an embedding that is zero or not finite")
    return [v / length for v in values]


class Clip:
    """open_clip, for images and texts."""

    def __init__(self, model, weights, device):
        self.torch = need("torch")
        open_clip = need("open_clip", "open_clip_torch")
        try:
            self.model, _, self.preprocess = open_clip.create_model_and_transforms(model, pretrained=weights or None)
            self.tokenize = open_clip.get_tokenizer(model)
        except Exception as error:
            raise Mistake(f"open_clip cannot load {model} with weights {weights}: {one_line(error)}") from error
        self.model = self.model.to(device).eval()
        self.device = device
        self.name = f"open_clip {getattr(open_clip, '__version__', '?')} {model} {weights}"
        self.size = len(self.texts(["a"])[0])

    def images(self, images):
        with self.torch.no_grad():
            batch = self.torch.stack([self.preprocess(image) for image in images]).to(self.device)
            return self.model.encode_image(batch).float().cpu().tolist()

    def texts(self, texts):
        with self.torch.no_grad():
            return self.model.encode_text(self.tokenize(texts).to(self.device)).float().cpu().tolist()


class Diffusion:
    """A diffusers pipeline from text to images."""

    def __init__(self, model, device, dtype, steps, guidance, width, height, revision=None):
        self.torch = need("torch")
        diffusers = need("diffusers")
        if dtype not in ("float32", "float16", "bfloat16"):
            raise Mistake(f"--dtype must be float32, float16 or bfloat16, not {dtype}")
        if isinstance(model, str):
            try:
                model = diffusers.AutoPipelineForText2Image.from_pretrained(
                    model, torch_dtype=getattr(self.torch, dtype), revision=revision)
            except Exception as error:
                raise Mistake(f"diffusers cannot load {model}: {one_line(error)}") from error
        self.pipeline = model.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.arguments = {"num_inference_steps": steps, "guidance_scale": guidance}
        if width:
            self.arguments["width"] = width
        if height:
            self.arguments["height"] = height
        self.name = f"diffusers {diffusers.__version__} {dtype} {sorted(self.arguments.items())} {revision or ''}".strip()

    def __call__(self, prompts, seeds):
        """One image or None, where a safety checker has blacked it, for each."""
        # Noise on the CPU, with a generator each: the same image on any device and in any batch.
        noise = [self.torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        result = self.pipeline(prompt=list(prompts), generator=noise, **self.arguments)
        flagged = getattr(result, "nsfw_content_detected", None) or [False] * len(result.images)
        return [None if black else image for image, black in zip(result.images, flagged)]


def one_line(error):
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:300]


class Side:
    """Answers batches of requests: `generator` makes images, `clip` embeds, `head` (or None) scores."""

    def __init__(self, generator, clip, head=None, folder=None, name="diffusers", remembered=4096):
        if head is not None and len(head.weight) != clip.size:
            raise Mistake(f"the aesthetic head is for embeddings of {len(head.weight)} numbers, and this CLIP model's "
                          f"have {clip.size}")
        self.generator, self.clip, self.head, self.folder, self.name = generator, clip, head, folder, name
        self.texts, self.remembered = collections.OrderedDict(), remembered
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def hello(self):
        version = f"{self.generator.name}; {self.clip.name}"
        if self.head is not None:
            version += f"; head {self.head.digest}"
        return {"name": self.name, "version": version, "simulated": False, "embedding_size": self.clip.size}

    def embed_texts(self, texts):
        """Their embeddings; the last ones are remembered, since the prompts of a query share it."""
        new = [text for text in dict.fromkeys(texts) if text not in self.texts]
        if new:
            for text, values in zip(new, self.clip.texts(new)):
                self.texts[text] = unit(values)
        out = [self.texts[text] for text in texts]
        for text in texts:
            self.texts.move_to_end(text)
        while len(self.texts) > self.remembered:
            self.texts.popitem(last=False)
        return out

    def answer(self, batch):
        """The answers of a batch. What fails for all is tried for each alone: one bad request takes no others along."""
        try:
            return self.render(batch)
        except Exception as error:
            if len(batch) == 1:
                return [{"id": batch[0]["id"], "error": f"{type(error).__name__}: {one_line(error)}"}]
            print(f"a batch of {len(batch)} failed ({one_line(error)}); each is tried alone", file=sys.stderr)
        return [self.answer([request])[0] for request in batch]

    def render(self, batch):
        images = self.generator([r["prompt"] for r in batch], [r["seed"] for r in batch])
        shown = [image for image in images if image is not None]
        embedded = iter(self.clip.images(shown) if shown else [])
        queries = self.embed_texts([r["query"] for r in batch])
        prompts = self.embed_texts([r["prompt"] for r in batch])
        out = []
        for request, image, query, prompt in zip(batch, images, queries, prompts):
            if image is None:
                out.append({"id": request["id"], "error": "the safety checker has blacked the image"})
                continue
            vector = unit(next(embedded))
            answer = {"id": request["id"], "image_embedding": vector, "query_embedding": query,
                      "prompt_embedding": prompt}
            if self.head is not None:
                answer["aesthetic"] = self.head.score(vector)
            if self.folder is not None:
                answer["image"] = self.save(image, request)
            out.append(answer)
        return out

    def save(self, image, request):
        key = json.dumps([self.hello()["version"], request["prompt"], request["seed"]])
        path = self.folder / (hashlib.sha256(key.encode()).hexdigest()[:24] + ".png")
        aside = path.with_suffix(f".{os.getpid()}.tmp")
        image.save(aside, format="PNG")
        os.replace(aside, path)
        return str(path)


def parse_request(line):
    request = json.loads(line)
    if not isinstance(request, dict):
        raise ValueError("a request is not an object")
    for key, kind in (("id", str), ("query", str), ("prompt", str), ("seed", int)):
        if not isinstance(request.get(key), kind) or isinstance(request[key], bool):
            raise ValueError(f"a request has no {key}")
    return request


def serve(side, lines, out, batch):
    """Says hello, then answers: a batch is full, or ends with an empty line or the input."""
    def say(value):
        out.write(json.dumps(value, allow_nan=False) + "\n")
        out.flush()

    def answer(waiting):
        for one in side.answer(waiting) if waiting else []:
            say(one)

    say(side.hello())
    waiting = []
    for line in lines:
        if line.strip():
            try:
                waiting.append(parse_request(line))
            except ValueError as error:
                say({"id": "", "error": one_line(error)})
        if len(waiting) == batch or not line.strip():
            answer(waiting)
            waiting = []
    answer(waiting)


def parse_arguments(arguments):
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="pipeline: a folder, or a name that diffusers can fetch")
    parser.add_argument("--revision", help="of the pipeline")
    parser.add_argument("--clip", default="ViT-L-14", help="open_clip model (default: %(default)s)")
    parser.add_argument("--clip-weights", default="openai", help="its weights: a name, or a file (default: %(default)s)")
    parser.add_argument("--aesthetic-head", metavar="FILE", help=".safetensors; without it there is no `aesthetic`")
    parser.add_argument("--images", type=pathlib.Path, metavar="DIR", help="keep the images there, as PNG")
    parser.add_argument("--steps", type=int, default=30, help="of denoising (default: %(default)s)")
    parser.add_argument("--guidance", type=float, default=7.5, help="guidance scale (default: %(default)s)")
    parser.add_argument("--width", type=int, help="pixels")
    parser.add_argument("--height", type=int, help="pixels")
    parser.add_argument("--batch", type=int, default=4, help="images at once (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu, ... (default: %(default)s)")
    parser.add_argument("--dtype", default="float16", help="float16, bfloat16 or float32 (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.batch < 1 or options.steps < 1:
        parser.error("--batch and --steps must be 1 or more")
    return options


class Parser(argparse.ArgumentParser):
    """A mistake is one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def main(arguments=None):
    options = parse_arguments(arguments)
    # Standard output is the protocol's alone: what libraries print there goes to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        head = Head(options.aesthetic_head) if options.aesthetic_head else None
        generator = Diffusion(options.model, options.device, options.dtype, options.steps, options.guidance,
                              options.width, options.height, options.revision)
        clip = Clip(options.clip, options.clip_weights, options.device)
        side = Side(generator, clip, head, options.images, name=options.model)
    except Mistake as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        serve(side, open(0, encoding="utf-8", errors="replace"), out, options.batch)
    except BrokenPipeError:  # the one who asked has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
