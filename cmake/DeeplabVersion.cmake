# What version() and build_summary() answer: a header that only src/base/version.cpp includes.
string(TOUPPER "${CMAKE_BUILD_TYPE}" type)
set(flags "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${type}}")
if(DEEPLAB_SANITIZE)
  string(APPEND flags " -fsanitize=${DEEPLAB_SANITIZE}")
endif()
if(DEEPLAB_NATIVE)
  string(APPEND flags " -march=native (src/cpu, src/data)")
endif()
string(STRIP "${flags}" flags)
set(parts "")
foreach(part ONEDNN MPI CUDA NCCL)
  string(TOLOWER ${part} name)
  if(DEEPLAB_HAVE_${part})
    string(APPEND parts "${name} yes, ")
  else()
    string(APPEND parts "${name} no, ")
  endif()
endforeach()
string(REGEX REPLACE ", $" "" parts "${parts}")
add_custom_target(deeplab_build_info
  COMMAND ${CMAKE_COMMAND} -D OUTPUT=${CMAKE_BINARY_DIR}/generated/build_info.h -D SOURCE_DIR=${PROJECT_SOURCE_DIR}
          -D VERSION=${PROJECT_VERSION} -D "COMPILER=${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}"
          -D BUILD_TYPE=${CMAKE_BUILD_TYPE} -D "FLAGS=${flags}" -D "PARTS=${parts}"
          -P ${PROJECT_SOURCE_DIR}/cmake/WriteBuildInfo.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/generated/build_info.h
  VERBATIM COMMENT "")
