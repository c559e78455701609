#!/usr/bin/env bash
# In a checkout, after tests/run.sh has built the CUDA part (build-cuda-only/, CUDA 13 and its cuDNN). No GPU.
set -euo pipefail
tests=build-cuda-only/tests stub=build-cuda-only/tests/cuda/driver_stub
for package in nvidia-cudnn-cu12==9.8.0.87 nvidia-cublas-cu12==12.9.3.13 nvidia-cuda-nvrtc-cu12==12.9.86; do
    pip install --no-deps --target old "$package"
done
pip install --no-deps --target new nvidia-cudnn-cu13==9.28.1.4
old=$PWD/old/nvidia/cudnn/lib:$PWD/old/nvidia/cublas/lib:$PWD/old/nvidia/cuda_nvrtc/lib
new=$PWD/new/nvidia/cudnn/lib:$PWD/$stub
LD_LIBRARY_PATH=$old "$tests/cuda_tests" || true # three failed, README.md
LD_LIBRARY_PATH=$new DEEPLAB_TEST_DRIVER_STUB=1 "$tests/cuda_tests"
for device in h200 a100; do
    for libraries in "$old" "$new"; do
        LD_LIBRARY_PATH=$libraries "$tests/deeplab-plan-check" "tests/cuda/device-properties/$device.json" jobs/configs | tail -n 1
    done
done
