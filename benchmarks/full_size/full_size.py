#!/usr/bin/env python3
"""Compares our training with PyTorch's at full size: the same weights, the same real batches (by our
loader), the reference recipe. Results go to OUT: csv files, summary.json, comparison.png. See README.md.

    full_size.py --data SHARDS --out OUT --backbone resnet50                # the first four parts at 513
    full_size.py --data SHARDS --out OUT --backbone resnet18 --crop 65 --steps 10 --warm-up 20

Parts (--parts a,b,…):
  kinkfree  one step from weights that keep every ReLU away from its kink: logits and every gradient
  random    a step from fresh weights on each of --repeats batches: our distance from float64 beside PyTorch's own in float32
  steps     the reference recipe, beside runs of PyTorch with permuted batches
  small_lr  the same at a learning rate of 1e-5
  first_steps  the recipe's first steps from each of --repeats batches on: our distance from float64 beside PyTorch's in float32
The last three start from weights that our side trained for --warm-up steps of the recipe from fresh ones.
"""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Debian's OpenBLAS takes processors it does not know for old ones: slow in double precision.
if os.path.exists("/proc/cpuinfo") and "avx512dq" in open("/proc/cpuinfo").read():
    os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")

try:
    import h5py
    import numpy as np
    import torch
    from torch.utils.checkpoint import checkpoint
except ImportError as error:
    print(f"skipped: no {error.name}")
    sys.exit(77)

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import deeplab_torch  # noqa: E402
from figure import plot  # noqa: E402
from formulas import kink_free_value  # noqa: E402
from limits import FIRST_LIMIT, FIRST_STEPS, FLOOR, GRADIENT_LIMIT, LOGITS_LIMIT, MARGIN, PERMUTED_FACTOR, SMALL_LR_LIMIT  # noqa: E402
from make_golden import Margin  # noqa: E402
from tensors import load_batch, read_safetensors, write_safetensors  # noqa: E402

CONFIG = os.path.join(ROOT, "jobs", "configs", "voc_r101_reference.toml")
CLASSES = 21
# The reference recipe, written down a second time: our side reads it from CONFIG.
LR, POWER, ITERATIONS, MOMENTUM, DECAY, HEAD = 0.007, 0.9, 30000, 0.9, 4e-5, 10.0


class Comparison:
    def __init__(self, options):
        self.o = options
        self.tag = options.backbone.replace("resnet", "r")
        if options.crop != 513:
            self.tag += f"_{options.crop}"
        self.work = options.work or os.path.join(options.out, "work")
        os.makedirs(self.work, exist_ok=True)
        self.summary_path = os.path.join(options.out, "summary.json")
        self.summary = json.load(open(self.summary_path)) if os.path.exists(self.summary_path) else {}
        self.passed = True

    def record(self, name, value):
        self.summary[f"{self.tag}_{name}"] = float(f"{value:.4g}")
        with open(self.summary_path, "w") as f:
            json.dump(self.summary, f, indent=1)
            f.write("\n")

    def verdict(self, name, ok, text):
        self.passed &= bool(ok)
        self.record(f"{name}_passed", int(bool(ok)))
        print(f"{'PASSED' if ok else 'FAILED'}  {self.tag} {name}: {text}", flush=True)

    def csv(self, name, header, rows):
        with open(os.path.join(self.o.out, f"{self.tag}_{name}.csv"), "w", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([[f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows])

    def file(self, name):
        return os.path.join(self.work, f"{self.tag}_{name}")

    # --- Our side ---

    def program(self, *arguments, crop=None):
        settings = [f"model.backbone={self.o.backbone}", f"model.output_stride={self.o.output_stride}",
                    f"model.num_classes={CLASSES}", "model.dropout=[0.0, 0.0, 0.0]",
                    f"data.crop={crop or self.o.crop}", f"train.global_batch={self.o.batch}",
                    f"train.seed={self.o.seed}"]
        command = [self.o.program, arguments[0], "--config", CONFIG]
        for s in settings:
            command += ["--set", s]
        subprocess.run(command + [str(a) for a in arguments[1:]], check=True)

    def batches(self, count, crop=None):
        """The file of at least `count` batches."""
        crop = crop or self.o.crop
        path = self.file(f"batches_{crop}_{self.o.batch}.h5")
        if os.path.exists(path):
            with h5py.File(path, "r") as f:
                if len(f["images"]) >= count:
                    return path
        self.program("batches", "--data", self.o.data, "--steps", count, "--out", path + ".part", crop=crop)
        os.rename(path + ".part", path)
        return path

    def ours(self, name, weights, batches, steps, first=0, lr=LR, details=False, save=None, crop=None):
        """Our losses, and the file of details."""
        out = self.file(f"{name}_ours.h5")
        if not (self.o.resume and os.path.exists(out) and (save is None or os.path.exists(save))):
            self.program("train", "--set", f"optimizer.lr={lr}", "--weights", weights, "--batches", batches,
                         "--first", first, "--steps", steps, "--threads", self.o.threads, "--out",
                         out + ".part", *(["--details"] if details else []),
                         *(["--save", save] if save else []), crop=crop)
            os.rename(out + ".part", out)
        with h5py.File(out, "r") as f:
            return f["losses"][()], out

    # --- PyTorch's side ---

    def weights(self, name, value_of):
        """Writes value_of(name, tensor) of every parameter and running statistic."""
        path = self.file(f"{name}.safetensors")
        model = deeplab_torch.DeepLabV3Plus(self.o.backbone, self.o.output_stride, CLASSES, (0, 0, 0))
        write_safetensors(path, {k: value_of(k, v) for k, v in deeplab_torch.state(model).items()})
        return path

    def fresh(self):
        torch.manual_seed(self.o.seed)
        return self.weights("fresh", lambda k, v: v.numpy())

    def start(self):
        """What `steps` and `small_lr` start from."""
        if self.o.weights:
            return self.o.weights
        if self.o.warm_up == 0:
            return self.fresh()
        crop, count = self.o.warm_up_crop or self.o.crop, self.o.warm_up
        path = self.file(f"trained_{crop}_{count}.safetensors")
        if not os.path.exists(path):
            self.ours(f"warm_up_{crop}", self.fresh(), self.batches(count, crop), count, save=path, crop=crop)
        return path

    def model(self, weights, dtype):
        model = deeplab_torch.DeepLabV3Plus(self.o.backbone, self.o.output_stride, CLASSES, (0, 0, 0))
        model.load_state_dict(read_safetensors(weights), strict=True)
        model = model.to(dtype).train()
        if dtype == torch.float64 or self.o.low_memory:
            # Activations of a block are computed again in the backward pass. Running statistics are
            # then updated twice: nothing here reads them.
            for module in model.modules():
                if isinstance(module, (deeplab_torch.BasicBlock, deeplab_torch.Bottleneck,
                                       deeplab_torch.ConvNormAct)):
                    module.forward = recomputed(module.forward)
        return model

    def gradients(self, weights, batches, number, dtype, label):
        """Of one batch: loss, logits, gradients by name, and what Margin saw."""
        start = time.time()
        images, labels = load_batch(batches, number, dtype)
        model = self.model(weights, dtype)
        with Margin() as margin:
            logits = model.small_logits(images)
        loss = deeplab_torch.segmentation_loss(deeplab_torch.resize(logits, images.shape[-2:]), labels)
        loss.backward()
        seconds = time.time() - start
        print(f"{label}: loss {loss.item():.9g}  {seconds:.1f} s", flush=True)
        return (loss.item(), logits.detach().numpy().astype(np.float64),
                {n: p.grad.numpy().astype(np.float64) for n, p in model.named_parameters()}, margin)

    def train(self, name, weights, batches, steps, first=0, lr=LR, dtype=torch.float32, permutation=None,
              layout=torch.contiguous_format):
        """PyTorch's losses; permutation: seed of another order inside each batch."""
        cache = self.file(f"{name}.npy")
        if self.o.resume and os.path.exists(cache):
            return np.load(cache)
        model = self.model(weights, dtype).to(memory_format=layout)
        heads = [p for n, p in model.named_parameters() if not n.startswith("backbone.")]
        optimizer = torch.optim.SGD([{"params": model.backbone.parameters()}, {"params": heads}], lr,
                                    MOMENTUM, weight_decay=DECAY)
        shuffle = None if permutation is None else np.random.RandomState(permutation)
        losses = []
        for step in range(steps):
            start = time.time()
            images, labels = load_batch(batches, first + step, dtype)
            if shuffle is not None:
                order = torch.from_numpy(shuffle.permutation(len(images)))
                images, labels = images[order], labels[order]
            rate = lr * (1 - step / ITERATIONS) ** POWER
            optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = rate, HEAD * rate
            optimizer.zero_grad()
            loss = deeplab_torch.segmentation_loss(model(images.contiguous(memory_format=layout)), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            print(f"{name}: step {step + 1}/{steps}  loss {losses[-1]:.6f}  {time.time() - start:.2f} s",
                  flush=True)
        np.save(cache, np.array(losses))
        return np.array(losses)

    # --- Parts ---

    def one_step(self, name, weights, repeats=1):
        """Distances from float64 of one step's logits and gradients: ours and PyTorch's float32. Root
        mean square over `repeats` batches."""
        batches = self.batches(repeats)
        sides = ("ours", "pytorch32")
        squares, rows, margin, flips = {}, {}, float("inf"), 0
        for number in range(repeats):
            losses, path = self.ours(f"{name}{number}", weights, batches, 1, number, details=True)
            exact = self.gradients(weights, batches, number, torch.float64, f"{name}: PyTorch float64")
            torch32 = self.gradients(weights, batches, number, torch.float32, f"{name}: PyTorch float32")
            with h5py.File(path, "r") as f:
                mine = (losses[0], f["logits"][()].astype(np.float64),
                        {k: f["gradients/" + k][()].astype(np.float64) for k in exact[2]})
            norms = {k: np.linalg.norm(g) for k, g in exact[2].items()}
            largest, whole = max(norms.values()), np.linalg.norm(list(norms.values()))
            margin = min(margin, exact[3].value)
            flips += sum(a != b for a, b in zip(exact[3].signs, torch32[3].signs))
            for label, side in zip(sides, (mine, torch32)):
                differences = {k: np.linalg.norm(side[2][k] - g) for k, g in exact[2].items()}
                relative = {"loss": (side[0] - exact[0]) / exact[0],
                            "logits": np.linalg.norm(side[1] - exact[1]) / np.linalg.norm(exact[1]),
                            "gradient": np.linalg.norm(list(differences.values())) / whole}
                for key, value in relative.items():
                    squares[label, key] = squares.get((label, key), 0) + value**2 / repeats
                for k, d in differences.items():
                    row = rows.setdefault(k, {side: 0 for side in sides} | {"norm": norms[k]})
                    row[label] += (d / max(norms[k], FLOOR * largest))**2 / repeats
        self.csv(f"{name}_gradients", ("parameter", "norm", "ours", "pytorch_float32"),
                 [(k, float(r["norm"]), *(float(np.sqrt(r[side])) for side in sides)) for k, r in rows.items()])
        result = {f"{label}_{key}": np.sqrt(value) for (label, key), value in squares.items()}
        for side in sides:
            result[f"{side}_worst_gradient"] = max(np.sqrt(r[side]) for r in rows.values())
        result["relu_margin"], result["relus_that_flip"] = margin, flips
        for key, value in result.items():
            self.record(f"{name}_{key}", value)
        return result

    def kinkfree(self):
        r = self.one_step("kinkfree", self.weights(
            "kinkfree", lambda k, v: kink_free_value(k, tuple(v.shape))))
        ok = (r["ours_logits"] <= LOGITS_LIMIT and r["ours_worst_gradient"] <= GRADIENT_LIMIT
              and r["relu_margin"] > MARGIN and r["relus_that_flip"] == 0)
        self.verdict("kinkfree", ok, f"logits {r['ours_logits']:.1e} (limit {LOGITS_LIMIT:g}), worst "
                     f"gradient {r['ours_worst_gradient']:.1e} (limit {GRADIENT_LIMIT:g}); PyTorch float32: "
                     f"{r['pytorch32_logits']:.1e}, {r['pytorch32_worst_gradient']:.1e}; "
                     f"ReLU inputs stay {r['relu_margin']:.2f} from 0, the signs in {r['relus_that_flip']} "
                     "ReLUs differ between PyTorch's two")

    def random(self):
        r = self.one_step("random", self.fresh(), self.o.repeats)
        ratios = {k: r[f"ours_{k}"] / r[f"pytorch32_{k}"] for k in ("logits", "gradient")}
        for key, value in ratios.items():
            self.record(f"random_{key}_ratio", value)
        self.verdict("random", max(ratios.values()) <= 2, ", ".join(
            f"{k}: ours {r['ours_' + k]:.1e}, PyTorch float32 {r['pytorch32_' + k]:.1e} (ratio {v:.2f}, "
            "limit 2)" for k, v in ratios.items()))

    def steps(self):
        """Permuting a batch reorders PyTorch's sums over it, and leaves the rounding inside each sample
        as it was. Two more runs, outside the criterion, show what that rounding does: PyTorch's with
        other kernels (channels_last), and one in float64, for the first steps."""
        warm, count = self.o.warm_up, self.o.steps
        batches = self.batches(warm + count)
        weights = self.start()
        baseline = self.train("steps_pytorch", weights, batches, count, warm)
        ours, _ = self.ours("steps", weights, batches, count, warm)
        permuted = [self.train(f"steps_permuted{i}", weights, batches, count, warm, permutation=i)
                    for i in range(1, 1 + self.o.permutations)]
        others = {f"permuted{i + 1}_difference": np.abs(p - baseline) / baseline
                  for i, p in enumerate(permuted)}
        limit = PERMUTED_FACTOR * np.max([np.maximum.accumulate(p) for p in others.values()], 0)
        limit[:FIRST_STEPS] = FIRST_LIMIT
        other = self.train("steps_channels_last", weights, batches, count, warm, layout=torch.channels_last)
        others["channels_last_difference"] = np.abs(other - baseline) / baseline
        if self.o.exact_steps > 0:
            exact = self.train("steps_float64", weights, batches, self.o.exact_steps, warm,
                               dtype=torch.float64)
            for label, side in (("ours", ours), ("pytorch32", baseline)):
                distance = np.full(count, np.nan)
                distance[:len(exact)] = np.abs(side[:len(exact)] - exact) / exact
                others[f"{label}_from_float64"] = distance
                self.record(f"steps_{label}_from_float64", np.nanmax(distance))
        difference = np.abs(ours - baseline) / baseline
        running = np.maximum.accumulate(difference)
        self.csv("steps", ("step", "pytorch", "ours", "ours_difference", "limit", *others),
                 [(i + 1, *(float(c[i]) for c in (baseline, ours, difference, limit, *others.values())))
                  for i in range(count)])
        first, later = difference[:FIRST_STEPS].max(), running[FIRST_STEPS:] / limit[FIRST_STEPS:]
        worst = later.max() if len(later) else 0.0
        wider = np.maximum(limit, PERMUTED_FACTOR * np.maximum.accumulate(others["channels_last_difference"]))
        of_wider = (running / wider)[FIRST_STEPS:].max() if len(later) else 0.0
        for key, value in {"count": count, "first_difference": first, "largest_difference": running[-1],
                           "largest_permuted_difference": limit[-1] / PERMUTED_FACTOR,
                           "largest_channels_last_difference": others["channels_last_difference"].max(),
                           "share_of_limit": worst, "share_of_limit_with_channels_last": of_wider}.items():
            self.record(f"steps_{key}", value)
        self.verdict("steps", first <= FIRST_LIMIT and worst < 1, f"steps 1-{FIRST_STEPS} within {first:.1e} "
                     f"(limit {FIRST_LIMIT:g}); then at most {worst:.2f} of {PERMUTED_FACTOR:g} x the "
                     f"permuted runs' running maximum ({limit[-1] / PERMUTED_FACTOR:.1e} at the end), "
                     f"{of_wider:.2f} with PyTorch's channels_last run among them")

    def small_lr(self):
        warm, count = self.o.warm_up, self.o.steps
        batches = self.batches(warm + count)
        weights = self.start()
        baseline = self.train("small_lr_pytorch", weights, batches, count, warm, lr=1e-5)
        ours, _ = self.ours("small_lr", weights, batches, count, warm, lr=1e-5)
        difference = np.abs(ours - baseline) / baseline
        self.csv("small_lr", ("step", "pytorch", "ours", "ours_difference"),
                 [(i + 1, float(baseline[i]), float(ours[i]), float(difference[i])) for i in range(count)])
        self.record("small_lr_largest_difference", difference.max())
        self.verdict("small_lr", difference.max() <= SMALL_LR_LIMIT,
                     f"{count} steps at 1e-5 after {warm} steps: largest difference {difference.max():.1e} "
                     f"(limit {SMALL_LR_LIMIT:g})")

    def first_steps(self):
        """A single start's distance is chance; the medians over --repeats starts say which side rounds better."""
        warm, repeats = self.o.warm_up, self.o.repeats
        batches = self.batches(warm + repeats * FIRST_STEPS)
        weights = self.start()
        distances = np.zeros((2, repeats, FIRST_STEPS))
        for number in range(repeats):
            first, name = warm + number * FIRST_STEPS, f"first_steps{number}"
            exact = self.train(f"{name}_float64", weights, batches, FIRST_STEPS, first, dtype=torch.float64)
            sides = (self.ours(name, weights, batches, FIRST_STEPS, first)[0],
                     self.train(f"{name}_float32", weights, batches, FIRST_STEPS, first))
            distances[:, number] = np.abs(np.array(sides) - exact) / exact
        self.csv("first_steps", ("start", "step", "ours_from_float64", "pytorch32_from_float64"),
                 [(i + 1, s + 1, *map(float, distances[:, i, s])) for i in range(repeats) for s in range(FIRST_STEPS)])
        medians = np.median(distances, 1)
        for label, side in zip(("ours", "pytorch32"), medians):
            for step, value in enumerate(side):
                self.record(f"first_steps_{label}_step{step + 1}", value)
        ratios = medians[0, 1:] / medians[1, 1:]
        self.record("first_steps_ratio", ratios.max())
        self.record("first_steps_ours_nearer", (distances[0] < distances[1])[:, 1:].sum())
        self.verdict("first_steps", ratios.max() <= 2, "median distances from float64 after an update and after two: ours "
                     f"{medians[0, 1]:.1e} and {medians[0, 2]:.1e}, PyTorch float32 {medians[1, 1]:.1e} and "
                     f"{medians[1, 2]:.1e} (limit: twice)")


def recomputed(forward):
    return lambda x: checkpoint(forward, x, use_reentrant=False)


def check_blas():
    """float64 convolutions are matrix products of the system's BLAS."""
    x = torch.ones(512, 512, dtype=torch.float64)
    start = time.time()
    x @ x
    speed = 2 * 512**3 / (time.time() - start) / 1e9
    if speed < 8:
        print(f"note: float64 matrix products run at {speed:.1f} GFLOP/s, and float64 steps will be slow: put "
              "an optimised libblas.so.3 (Debian: libopenblas0-pthread) on LD_LIBRARY_PATH", flush=True)


def environment(options):
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 "unknown") if os.path.exists("/proc/cpuinfo") else "unknown"
    with open(os.path.join(options.out, "environment.txt"), "w") as f:
        f.write(f"processor      {model}, {torch.get_num_threads()} threads\n"
                f"PyTorch        {torch.__version__}, NumPy {np.__version__}\n")
    with open(os.path.join(options.out, "command.sh"), "a") as f:
        # This machine's paths are nobody else's.
        paths = {options.data: "SHARDS", options.out: "OUT", options.work: "WORK", options.weights: "WEIGHTS",
                 options.program: "PROGRAM"}
        f.write(shlex.join(["python3", "benchmarks/full_size/full_size.py", *(paths.get(a, a) for a in sys.argv[1:])]) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--data", required=True, help="folder of shards with train_aug (deeplab-pack)")
    p.add_argument("--out", required=True, help="folder of the results; later calls add to it")
    p.add_argument("--work", help="folder of batches and weights, large (default OUT/work)")
    p.add_argument("--program", default=os.path.join(ROOT, "build", "bin", "full-size-steps"))
    p.add_argument("--backbone", default="resnet50", choices=sorted(deeplab_torch.BLOCKS))
    p.add_argument("--output-stride", type=int, default=16, choices=(8, 16))
    p.add_argument("--crop", type=int, default=513)
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--parts", default="kinkfree,random,steps,small_lr")
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--warm-up", type=int, default=150, help="steps before those that are compared")
    p.add_argument("--warm-up-crop", type=int, help="their crop (default: that of the comparison)")
    p.add_argument("--permutations", type=int, default=4)
    p.add_argument("--repeats", type=int, default=3, help="batches of random, starts of first_steps")
    p.add_argument("--exact-steps", type=int, default=3, help="steps that float64 takes too (slow); 0: none")
    p.add_argument("--weights", help="safetensors that steps and small_lr start from instead")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--low-memory", action="store_true", help="recompute activations in float32 too")
    p.add_argument("--resume", action="store_true", help="keep runs that are complete in the work folder")
    options = p.parse_args()
    if not os.path.exists(options.program):
        p.error(f"there is no {options.program}: build the target full-size-steps, or give --program")
    os.makedirs(options.out, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # else evaluation of random weights is many times slower
    environment(options)
    check_blas()
    comparison = Comparison(options)
    parts = options.parts.split(",")
    for part in parts:
        if part not in ("kinkfree", "random", "steps", "small_lr", "first_steps"):
            p.error(f"there is no part {part}")
    for part in parts:
        start = time.time()
        getattr(comparison, part)()
        comparison.record(f"{part}_wall_s", time.time() - start)
        plot(options.out)
    sys.exit(0 if comparison.passed else 1)


if __name__ == "__main__":
    main()
