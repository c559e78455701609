# What the build will contain: the last thing that a configuration prints.
set(DEEPLAB_ONEDNN_WHAT "CPU backend, oneDNN ${dnnl_VERSION}")
set(DEEPLAB_MPI_WHAT "MPI communicator, MPI ${MPI_C_VERSION}")
if(DEEPLAB_HAVE_CUDA)
  list(JOIN CMAKE_CUDA_ARCHITECTURES ", " architectures)
  set(DEEPLAB_CUDA_WHAT "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for sm ${architectures}, cuDNN ${CUDNN_VERSION} (backend not \
finished in this version)")
endif()
set(DEEPLAB_NCCL_WHAT "NCCL communicator, ${NCCL_LIBRARY}")

message(STATUS "deeplab-hpc ${PROJECT_VERSION} will contain")
foreach(part ONEDNN MPI CUDA NCCL)
  string(SUBSTRING "${part}      " 0 7 column)
  if(DEEPLAB_HAVE_${part})
    message(STATUS "  ${column} yes: ${DEEPLAB_${part}_WHAT}")
  else()
    message(STATUS "  ${column} no: ${DEEPLAB_${part}_WHY}")
  endif()
endforeach()
message(STATUS "  build   ${CMAKE_BUILD_TYPE}, ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
               ", for this processor: ${DEEPLAB_NATIVE}, sanitizers: ${DEEPLAB_SANITIZE}, tests: ${DEEPLAB_TESTS}")
