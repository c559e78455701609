# cmake -D ARCHIVE=FILE.tar.xz -D OUT=DIR -D PROGRAMS="a;b" [-D MPIRUN=FILE] [-D NATIVE=ON] -D SOURCE_DIR=DIR -P BundleArchive.cmake
# One file that takes the programs to another machine and checks its GPU there: Bundle.cmake's folder without symbols, in OUT,
# and what gpu_check.sh needs of the source tree. The same files give the same archive.
if(NATIVE)
  message(FATAL_ERROR "this build is for the present processor (DEEPLAB_NATIVE=ON) — on another kind the archive's programs may \
end with an illegal instruction — configure with -DDEEPLAB_NATIVE=OFF and build bundle-archive there")
endif()
foreach(tool strip tar xz)
  string(TOUPPER ${tool} name)
  find_program(${name} ${tool})
  if(NOT ${name})
    message(FATAL_ERROR "${tool} is missing — the archive is made with it — install it (Debian: binutils, tar, xz-utils)")
  endif()
endforeach()
if(NOT LEVEL)
  set(LEVEL 6)  # of xz; a test is in a hurry
endif()
set(most_bytes 67108864)  # 64 MiB: what ways to a machine with a GPU may take at once

set(top ${OUT})
file(REMOVE_RECURSE ${top} ${ARCHIVE})
set(OUT ${top}/bundle)
include(${SOURCE_DIR}/cmake/Bundle.cmake)

file(GLOB fixtures RELATIVE ${SOURCE_DIR} ${SOURCE_DIR}/jobs/configs/*.toml ${SOURCE_DIR}/tests/golden/*.h5
     ${SOURCE_DIR}/tests/golden/*.txt ${SOURCE_DIR}/tests/golden/*.py ${SOURCE_DIR}/tests/cuda/device-properties/*.json)
foreach(file ${fixtures} benchmarks/gpu_check.sh benchmarks/gpu_check_line.sh benchmarks/pytorch_baseline.py LICENSE)
  get_filename_component(folder ${file} DIRECTORY)
  file(COPY ${SOURCE_DIR}/${file} DESTINATION ${top}/${folder})
endforeach()
file(COPY_FILE ${SOURCE_DIR}/cmake/bundle/archive.md ${top}/README.md)

get_filename_component(parent ${top} DIRECTORY)
get_filename_component(name ${top} NAME)
execute_process(COMMAND ${TAR} -C ${parent} --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u+w,go=rX -cf - ${name}
                COMMAND ${XZ} -${LEVEL} -T 2 OUTPUT_FILE ${ARCHIVE}.part RESULTS_VARIABLE results)
file(SIZE ${ARCHIVE}.part bytes)
if(NOT "${results}" STREQUAL "0;0" OR bytes GREATER most_bytes)
  file(REMOVE ${ARCHIVE}.part)
  message(FATAL_ERROR "the archive could not be made, or is too large: tar and xz ended with ${results}, ${bytes} of ${most_bytes} bytes")
endif()
file(RENAME ${ARCHIVE}.part ${ARCHIVE})
math(EXPR tenths "${bytes} * 10 / 1048576")
string(REGEX REPLACE "(.)$" ".\\1" mib ${tenths})
message(STATUS "${ARCHIVE}: ${mib} MiB")
