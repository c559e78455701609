# shellcheck shell=bash
# One machine, by jobs/workstation.sh: shared with other work, so waiting ranks and threads give way.
export OMP_WAIT_POLICY=passive OMPI_MCA_mpi_yield_when_idle=1
# No interconnect is needed between ranks of one machine.
export OMPI_MCA_btl=self,vader
true
