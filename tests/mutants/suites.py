"""Which tests can see a change of a file, those that are quick and catch most first.

A suite is a program of the tests with what it needs to run. `added` marks the
suites that came with the stand-ins' stricter rules: a mutant that only they catch was not caught before.
"""
import dataclasses
import fnmatch
import re

MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np"]


@dataclasses.dataclass(frozen=True)
class Suite:
    program: str
    options: tuple = ()
    ranks: tuple = (0,)  # 0: without mpirun
    environment: tuple = ()
    added: bool = False
    starts: tuple = ()  # programs that its tests start


TRAIN = ("deeplab-train-on-host",)
LATE = (("DEEPLAB_TEST_STREAMS", "late"),)
LONG = "*Slow*:*Golden*:*OpCases*:*OpFamilies*"
STREAMS = "*Prefetch*:*Exposed*:*Nccl*:*Graphs*"

SUITES = {
    "cuda_kernel": Suite("cuda_kernel_tests"),
    "nccl": Suite("nccl_tests"),
    "cuda": Suite("cuda_tests"),
    "cuda_mpi": Suite("cuda_mpi_tests", ranks=(2, 3)),
    "comm_mpi": Suite("comm_mpi_tests", ranks=(1, 2, 3)),
    "comm": Suite("comm_tests", starts=("deeplab-failing-job",)),
    "cuda_executor": Suite("cuda_executor_tests", ("-" + LONG,), environment=LATE),
    "cuda_executor long": Suite("cuda_executor_tests", (LONG,), environment=LATE),
    "cuda_executor at once": Suite("cuda_executor_tests", (STREAMS,), environment=(("DEEPLAB_TEST_STREAMS", "at-once"),)),
    "cuda_executor shuffled": Suite("cuda_executor_tests", (STREAMS,), environment=(("DEEPLAB_TEST_STREAMS", "shuffled"),)),
    "cuda_executor_mpi": Suite("cuda_executor_mpi_tests", ranks=(2, 3)),
    "train_mpi": Suite("train_mpi_tests", ranks=(2, 3)),
    "train": Suite("train_tests", ("*Watchdog*:*Preflight*:*Agreement*:-*Slow*",)),
    "nccl_mpi": Suite("nccl_mpi_tests", ranks=(1, 2, 3), added=True),
    "cuda_whole": Suite("cuda_whole_tests", ("-*Slow*",), added=True, starts=TRAIN),
    "cuda_whole slow": Suite("cuda_whole_tests", ("*Slow*",), added=True, starts=TRAIN),
}

_EXECUTOR = ["cuda_executor", "cuda_executor_mpi", "cuda_executor at once", "cuda_executor shuffled", "cuda_executor long"]
_WHOLE = ["cuda_whole", "cuda_whole slow"]
# By the first pattern that fits.
BY_FILE = [
    ("src/cuda/kernels/*", ["cuda_kernel", *_EXECUTOR, *_WHOLE]),
    ("src/cuda/convolution_problem.*", ["cuda_executor", "cuda", "cuda_executor long", *_WHOLE]),
    ("src/cuda/convolution.h", ["cuda_executor", "cuda"]),
    # Nothing of these is in the stand-in.
    ("src/cuda/convolution*", ["cuda"]),
    ("src/cuda/descriptor.*", ["cuda"]),
    ("src/cuda/ranges.cpp", ["cuda"]),
    ("src/cuda/choice_cache.*", ["cuda", "cuda_mpi", *_EXECUTOR, *_WHOLE]),
    ("src/cuda/engine_*", ["cuda", "cuda_mpi", *_EXECUTOR, *_WHOLE]),
    ("src/cuda/device_choice.cpp", ["cuda", "cuda_mpi", "cuda_executor_mpi", *_WHOLE]),
    ("src/cuda/tuning_log.*", ["cuda", "cuda_mpi", "cuda_executor"]),
    ("src/cuda/*", [*_EXECUTOR, *_WHOLE]),
    ("src/comm/nccl.cpp", ["nccl", *_EXECUTOR, "nccl_mpi", *_WHOLE]),
    ("src/comm/device_communicator.cpp", ["comm_mpi", "nccl", *_EXECUTOR, *_WHOLE]),
    ("src/comm/staged.cpp", ["comm_mpi", *_EXECUTOR, *_WHOLE]),
    ("src/comm/agreement.cpp", ["cuda_mpi", "comm_mpi", "train_mpi", "train", *_WHOLE]),
    ("src/comm/launcher.*", ["comm"]),
    ("src/comm/*", ["comm_mpi", "comm", "train_mpi", "train", *_WHOLE]),
]
# Stubs of parts that are not built, where all are.
LEFT_OUT = ("no_cuda.cpp", "no_mpi.cpp", "no_nccl.cpp")


def mutated_files(root):
    return sorted(
        str(path.relative_to(root))
        for folder in ("src/cuda", "src/comm")
        for path in (root / folder).rglob("*")
        if path.suffix in (".cpp", ".h", ".cu", ".cuh") and path.name not in LEFT_OUT
    )


def suites_of(file):
    return next(suites for pattern, suites in BY_FILE if fnmatch.fnmatch(file, pattern))


def commands(suite, program):
    """One for each number of ranks."""
    for ranks in suite.ranks:
        command = [str(program)]
        if ranks < 2:  # the others would wait for the one that stops
            command.append("--gtest_fail_fast")
        command += ["--gtest_filter=" + option for option in suite.options]
        yield [*MPIRUN, str(ranks), *command] if ranks else command


def first_failure(output, code):
    """The test that failed first, and the end of what it said."""
    output = re.sub(r"\x1b\[[0-9;]*[mK]", "", output)
    failed = re.search(r"\[  FAILED  \] (\w+[./][\w./]+)", output)
    begun = re.findall(r"\[ RUN      \] ([\w./]+)", output)
    other_rank = re.search(r"\[rank \d+\] \S*?([\w.]+:\d+): ", output)
    if failed is None and other_rank:
        return other_rank[1], output[other_rank.start() :][:1500]
    if failed:
        start = output.rfind(f"[ RUN      ] {failed[1]}", 0, failed.start())
        return failed[1], output[max(start, 0) : failed.start()][-1500:]
    return f"{begun[-1] if begun else 'before the first test'} (exit code {code})", output[-1500:]
