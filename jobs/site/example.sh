# shellcheck shell=bash
# An example: copy it to a name of your own, keep the lines that your cluster needs, and export DEEPLAB_SITE=NAME (or a
# path) before sbatch. The job scripts source it in the job, before anything else, on the first node. It must end with
# status 0. `#SBATCH` lines have no effect here; account and partition: SBATCH_ACCOUNT, SBATCH_PARTITION.

# Modules: those that the programs were built with. A batch shell may lack `module`.
# source /etc/profile.d/modules.sh
# module load gcc openmpi hdf5 cuda || return 1

# Where the programs are; relative to the checkout.
# export DEEPLAB_BUILD=build-cluster

# What starts the ranks, with flags: srun (any --mpi= that your Open MPI was built for; `srun --mpi=list`), or mpirun.
# export DEEPLAB_LAUNCHER="srun --mpi=pmix"
# export DEEPLAB_LAUNCHER="mpirun --report-bindings"

# The network between nodes: for Open MPI through UCX, and for NCCL.
# export OMPI_MCA_pml=ucx UCX_NET_DEVICES=mlx5_0:1
# export OMPI_MCA_btl_tcp_disable_family=6  # Open MPI 5 over TCP, where it finds no pairing between interfaces
# export NCCL_SOCKET_IFNAME=ib0 NCCL_IB_HCA=mlx5

# More ranks than cores (test machines): waiting ranks give way to working ones.
# export OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=passive

true
