#!/usr/bin/env python3
"""scripts/image_side_diffusers.py: the protocol, batches, the head and mistakes with fakes; with torch, diffusers,
transformers and open_clip, a real pipeline with tiny random weights, built here.

usage: tests/scripts/image_side_diffusers_test.py
  UNFURL_TEST_DATA   where the published aesthetic heads are; without it their test is skipped
"""
import importlib.util
import io
import json
import math
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "image_side_diffusers.py"
spec = importlib.util.spec_from_file_location("image_side", SCRIPT)
image_side = importlib.util.module_from_spec(spec)
spec.loader.exec_module(image_side)


def missing(*modules):
    """The first of the modules that cannot be imported, or ""."""
    for module in modules:
        try:
            __import__(module)
        except ImportError:
            return module
    return ""


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        part = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class Image:
    def __init__(self, text):
        self.text = text

    def save(self, path, format):
        pathlib.Path(path).write_text(f"{format} {self.text}")


class FakeGenerator:
    name = "fake 1"

    def __init__(self):
        self.batches = []

    def __call__(self, prompts, seeds):
        self.batches.append(list(prompts))
        if "bomb" in prompts:
            raise MemoryError("CUDA out of memory\nTried to allocate 2 GiB")
        return [None if prompt == "black" else Image(f"{prompt} {seed}") for prompt, seed in zip(prompts, seeds)]


class FakeClip:
    name, size = "clip 1", 3

    def __init__(self):
        self.asked = []

    def images(self, images):
        return [[math.nan] * 3 if i.text.startswith("nan") else [len(i.text), 1.0, 0.0] for i in images]

    def texts(self, texts):
        self.asked += texts
        return [[len(text), 0.0, 2.0] for text in texts]


def request(i, prompt, query="fox", seed=1):
    return {"id": f"q{i}", "query": query, "prompt": prompt, "seed": seed}


def served(side, lines, batch=4):
    out = io.StringIO()
    image_side.serve(side, [line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines], out, batch)
    return [json.loads(line) for line in out.getvalue().splitlines()]


class Protocol(unittest.TestCase):
    def setUp(self):
        self.generator, self.clip = FakeGenerator(), FakeClip()
        self.side = image_side.Side(self.generator, self.clip, name="model")
        self.error, sys.stderr = sys.stderr, io.StringIO()

    def tearDown(self):
        sys.stderr = self.error

    def test_hello_and_answers(self):
        said = served(self.side, [request(0, "a fox"), request(1, "a cat", seed=12), "\n"])
        self.assertEqual(said[0], {"name": "model", "version": "fake 1; clip 1", "simulated": False, "embedding_size": 3})
        self.assertEqual([one["id"] for one in said[1:]], ["q0", "q1"])
        self.assertEqual(set(said[1]), {"id", "image_embedding", "query_embedding", "prompt_embedding"})
        self.assertAlmostEqual(said[2]["image_embedding"][0], 8 / math.sqrt(65))
        self.assertAlmostEqual(said[2]["prompt_embedding"][2], 2 / math.sqrt(29))
        for one in said[1:]:
            for key in ("image_embedding", "query_embedding", "prompt_embedding"):
                self.assertAlmostEqual(sum(v * v for v in one[key]), 1)

    def test_batches_end_when_full_or_at_an_empty_line(self):
        lines = [request(i, f"p{i}") for i in range(3)] + ["\n", "\n"] + [request(i, f"p{i}") for i in range(3, 9)]
        said = served(self.side, lines)
        self.assertEqual([len(batch) for batch in self.generator.batches], [3, 4, 2])
        self.assertEqual([one["id"] for one in said[1:]], [f"q{i}" for i in range(9)])

    def test_texts_are_embedded_once(self):
        served(self.side, [request(i, f"p{i % 2}") for i in range(8)])
        self.assertEqual(sorted(self.clip.asked), ["fox", "p0", "p1"])
        small = image_side.Side(self.generator, FakeClip(), remembered=2)
        served(small, [request(i, f"p{i % 2}") for i in range(8)], batch=1)
        self.assertLessEqual(len(small.texts), 2)
        self.assertEqual(len(served(small, [request(i, f"p{i}") for i in range(8)], batch=8)), 9)

    def test_one_bad_request_takes_no_others_along(self):
        said = served(self.side, [request(0, "a"), request(1, "bomb"), request(2, "black"), request(3, "nan")])
        self.assertEqual([one["id"] for one in said[1:]], ["q0", "q1", "q2", "q3"])
        self.assertIn("image_embedding", said[1])
        self.assertEqual(said[2]["error"], "MemoryError: CUDA out of memory")
        self.assertEqual(said[3]["error"], "the safety checker has blacked the image")
        self.assertIn("not finite", said[4]["error"])

    def test_lines_that_are_no_requests(self):
        said = served(self.side, ["garbage\n", "[1]\n", '{"id": "a", "query": "b", "prompt": "c", "seed": true}\n'])
        self.assertEqual([one["id"] for one in said[1:]], ["", "", ""])
        self.assertIn("seed", said[3]["error"])

    def test_images_are_kept(self):
        with tempfile.TemporaryDirectory() as folder:
            side = image_side.Side(self.generator, self.clip, folder=pathlib.Path(folder) / "a" / "b")
            said = served(side, [request(0, "x", seed=1), request(1, "x", seed=2), request(2, "x", seed=1)])
            files = [one["image"] for one in said[1:]]
            self.assertEqual(len(set(files)), 2)
            self.assertEqual(files[0], files[2])
            self.assertEqual(pathlib.Path(files[1]).read_text(), "PNG x 2")
            self.assertEqual(len(list(pathlib.Path(files[0]).parent.iterdir())), 2)


class Heads(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name) / "head.safetensors"

    def tearDown(self):
        self.folder.cleanup()

    def test_linear(self):
        write_safetensors(self.path, {"weight": ([1, 3], [1, 2, 3]), "bias": ([1], [0.5])})
        self.assertAlmostEqual(image_side.Head(self.path).score([1, 0, -1]), -1.5)

    def test_layers_are_one_function(self):
        write_safetensors(self.path, {
            "layers.0.weight": ([2, 3], [1, 2, 3, 4, 5, 6]), "layers.0.bias": ([2], [1, -1]),
            "layers.1.weight": ([1, 2], [2, -1]), "layers.1.bias": ([1], [10])})
        x = [1, -1, 2]  # layer 0: [1 - 2 + 6 + 1, 4 - 5 + 12 - 1] = [6, 10]; layer 1: 12 - 10 + 10
        self.assertAlmostEqual(image_side.Head(self.path).score(x), 12)

    def test_bad_files_are_one_line(self):
        self.path.write_bytes(b"nonsense")
        self.assertRaises(image_side.Mistake, image_side.Head, self.path)
        self.assertRaises(image_side.Mistake, image_side.Head, self.path.with_name("none"))
        write_safetensors(self.path, {"other": ([1], [1])})
        self.assertRaises(image_side.Mistake, image_side.Head, self.path)
        write_safetensors(self.path, {"weight": ([2, 1], [1, 2]), "bias": ([2], [0, 0])})
        self.assertRaises(image_side.Mistake, image_side.Head, self.path)
        write_safetensors(self.path, {"weight": ([1, 3], [1, 2, 3]), "bias": ([1], [0.5])})
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:-1])
        self.assertRaises(image_side.Mistake, image_side.Head, self.path)

    def test_size_must_fit(self):
        write_safetensors(self.path, {"weight": ([1, 4], [1, 2, 3, 4]), "bias": ([1], [0])})
        with self.assertRaisesRegex(image_side.Mistake, "4 numbers.*have 3"):
            image_side.Side(FakeGenerator(), FakeClip(), image_side.Head(self.path))

    def test_scores_are_answered(self):
        write_safetensors(self.path, {"weight": ([1, 3], [1, 0, 0]), "bias": ([1], [5])})
        head = image_side.Head(self.path)
        said = served(image_side.Side(FakeGenerator(), FakeClip(), head), [request(0, "a")])
        self.assertIn(head.digest, said[0]["version"])
        self.assertAlmostEqual(said[1]["aesthetic"], 5 + said[1]["image_embedding"][0])

    @unittest.skipUnless("UNFURL_TEST_DATA" in os.environ, "UNFURL_TEST_DATA is not set")
    def test_published_heads(self):
        folder = pathlib.Path(os.environ["UNFURL_TEST_DATA"]) / "aesthetic"
        shape, values = image_side.read_safetensors(folder / "clip_l14_rating_embeddings.safetensors")["embeddings"]
        rows = [list(values[i * shape[1]:(i + 1) * shape[1]]) for i in range(shape[0])]
        golden = {"laion_vit_l_14_linear.safetensors":
                      [-2.4579, -0.1379, 1.8951, 3.5849, 5.0997, 6.4701, 7.7870, 9.0480, 10.2264, 11.3044],
                  "improved_mlp_l14.safetensors":
                      [1.6555, 2.3593, 3.0698, 3.6725, 4.2380, 4.7010, 5.0731, 5.3654, 5.5767, 5.7468]}
        for name, scores in golden.items():
            head = image_side.Head(folder / name)
            for row, score in zip(rows, scores):
                self.assertAlmostEqual(head.score(image_side.unit(row)), score, delta=1e-3)


class Program(unittest.TestCase):
    def run_script(self, *arguments, python=(sys.executable,)):
        return subprocess.run([*python, str(SCRIPT), *arguments], input="", capture_output=True, text=True, timeout=300)

    def test_missing_packages_are_one_line(self):
        # -S and an empty PYTHONPATH: no installed package is seen.
        run = self.run_script("--model", "x", python=(sys.executable, "-I", "-S"))
        self.assertEqual(run.returncode, 2)
        self.assertEqual(run.stdout, "")
        self.assertRegex(run.stderr, r"^error: the image side needs the Python package torch, .*pip install torch\n$")

    def test_mistakes(self):
        run = self.run_script("--model", "x", "--aesthetic-head", "/no/such.safetensors")
        self.assertEqual((run.returncode, run.stderr), (2, "error: cannot read /no/such.safetensors: No such file or directory\n"))
        self.assertEqual(self.run_script("--model", "x", "--batch", "0").returncode, 2)
        self.assertEqual(self.run_script("--help").returncode, 0)


def tiny_pipeline():
    """A Stable Diffusion pipeline with random weights and a tokenizer of letters."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    torch.manual_seed(0)
    unet = UNet2DConditionModel(block_out_channels=(8, 16), layers_per_block=1, sample_size=16, in_channels=4,
                                out_channels=4, norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
    vae = AutoencoderKL(block_out_channels=[8, 16], in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
                        down_block_types=["DownEncoderBlock2D", "DownEncoderBlock2D"],
                        up_block_types=["UpDecoderBlock2D", "UpDecoderBlock2D"])
    with tempfile.TemporaryDirectory() as folder:
        letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + [","]
        words = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
        (pathlib.Path(folder) / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
        (pathlib.Path(folder) / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = CLIPTokenizer(str(pathlib.Path(folder) / "vocab.json"), str(pathlib.Path(folder) / "merges.txt"),
                                  model_max_length=77)
    text = CLIPTextModel(CLIPTextConfig(hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2,
                                        vocab_size=len(words), bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
                                        pad_token_id=len(words) - 1, projection_dim=16))
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    return StableDiffusionPipeline(unet=unet, vae=vae, text_encoder=text, tokenizer=tokenizer, scheduler=scheduler,
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)


class Real(unittest.TestCase):
    @unittest.skipIf(missing("torch", "diffusers", "transformers"),
                     f"python3 has no {missing('torch', 'diffusers', 'transformers')}: no real pipeline is built")
    def test_a_tiny_random_pipeline(self):
        generator = image_side.Diffusion(tiny_pipeline(), "cpu", "float32", 2, 1.5, 32, 32)

        class Pixels(FakeClip):
            size = 12

            def images(self, images):
                return [[v + 1.0 for v in list(image.resize((2, 2)).tobytes())] for image in images]

            def texts(self, texts):
                return [[float(len(text) + i) for i in range(12)] for text in texts]

        lines = [request(i, prompt, seed=seed) for i, (prompt, seed) in
                 enumerate([("a red fox", 1), ("a red fox", 2), ("a cat", 1), ("a red fox", 1)])]
        with tempfile.TemporaryDirectory() as folder:
            side = image_side.Side(generator, Pixels(), folder=pathlib.Path(folder))
            one, many = served(side, lines, batch=1)[1:], served(side, lines, batch=4)[1:]
            from PIL import Image as Pillow
            with Pillow.open(many[0]["image"]) as image:
                self.assertEqual(image.size, (32, 32))
        images = [answer["image_embedding"] for answer in many]
        self.assertEqual(images[0], images[3])
        self.assertNotEqual(images[0], images[1])
        self.assertNotEqual(images[0], images[2])
        for a, b in zip(one, many):  # an image does not depend on its batch
            self.assertLess(max(abs(x - y) for x, y in zip(a["image_embedding"], b["image_embedding"])), 0.02)

    @unittest.skipIf(missing("torch", "diffusers", "transformers", "open_clip"),
                     f"python3 has no {missing('torch', 'diffusers', 'transformers', 'open_clip')}: the program is not run")
    def test_the_whole_program(self):
        with tempfile.TemporaryDirectory() as folder:
            tiny_pipeline().save_pretrained(folder)
            lines = "".join(json.dumps(request(i, "a fox", seed=i)) + "\n" for i in range(2))
            run = subprocess.run([sys.executable, str(SCRIPT), "--model", folder, "--clip", "RN50", "--clip-weights", "",
                                  "--steps", "1", "--device", "cpu", "--dtype", "float32"], input=lines,
                                 capture_output=True, text=True, timeout=280)
        self.assertEqual(run.returncode, 0, run.stderr)
        said = [json.loads(line) for line in run.stdout.splitlines()]  # and nothing else, whatever libraries print
        self.assertEqual((len(said), said[0]["simulated"], said[0]["embedding_size"]), (3, False, 1024))
        self.assertEqual([len(one["image_embedding"]) for one in said[1:]], [1024, 1024])

    @unittest.skipIf(missing("torch", "open_clip", "PIL"),
                     f"python3 has no {missing('torch', 'open_clip', 'PIL')}: no real embedder is built")
    def test_a_random_clip(self):
        from PIL import Image as Pillow
        import open_clip
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "tiny.json").write_text(json.dumps({
                "embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
                "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}}))
            open_clip.add_model_config(folder)
        clip = image_side.Clip("tiny", "", "cpu")
        self.assertEqual(clip.size, 24)
        texts = clip.texts(["a fox", "a cat", "a fox"])
        self.assertEqual(len(texts[0]), clip.size)
        self.assertLess(max(abs(a - b) for a, b in zip(texts[0], texts[2])), 1e-4)
        self.assertGreater(max(abs(a - b) for a, b in zip(texts[0], texts[1])), 1e-4)
        image = clip.images([Pillow.new("RGB", (64, 48), "red")])
        self.assertEqual((len(image), len(image[0])), (1, clip.size))
        with self.assertRaisesRegex(image_side.Mistake, "open_clip cannot load no-such-model"):
            image_side.Clip("no-such-model", "", "cpu")


if __name__ == "__main__":
    unittest.main()
