# Language level, warnings, ccache, sanitizers, where programs go.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# Plans, formats and command lines gain nothing from -O3; src/CMakeLists.txt gives it to the folders with hot loops.
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

option(DEEPLAB_TESTS "Build the tests" ON)
option(DEEPLAB_BENCHMARKS "Build the benchmarks" ON)
option(DEEPLAB_WERROR "Warnings are errors: for who changes the sources; a compiler that we do not know may warn of more" OFF)
option(DEEPLAB_NATIVE "Compile the host loops for this machine's processor" ON)
option(DEEPLAB_FUZZ "Build the fuzz targets and what they need, nothing else (clang; tests/fuzz/README.md)" OFF)
set(DEEPLAB_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")
if(DEEPLAB_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "DEEPLAB_FUZZ=ON needs clang, whose libFuzzer drives the targets; this is ${CMAKE_CXX_COMPILER_ID}: \
configure with -DCMAKE_CXX_COMPILER=clang++ (Debian: clang libclang-rt-dev), or use the preset fuzz")
  endif()
  # Readers run in one process on the host: neither a device nor MPI is needed.
  foreach(part CUDA ONEDNN MPI)
    set(DEEPLAB_${part} OFF CACHE STRING "not used by the fuzz targets" FORCE)
  endforeach()
  set(DEEPLAB_SANITIZE "fuzzer-no-link,address,undefined" CACHE STRING "as the fuzz targets need them" FORCE)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(deeplab_options INTERFACE)
target_include_directories(deeplab_options INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_compile_options(deeplab_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  # False positives on std::string concatenation (GCC bug 105651).
  target_compile_options(deeplab_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(DEEPLAB_WERROR)
  target_compile_options(deeplab_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(DEEPLAB_SANITIZE)
  # Line tables are enough for reports; -O1 keeps the tests quick and the stack readable.
  add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${DEEPLAB_SANITIZE};-fno-sanitize-recover=all;-O1;-g1>"
                      "$<$<COMPILE_LANGUAGE:C,CXX>:-fno-omit-frame-pointer>")
  add_link_options(-fsanitize=${DEEPLAB_SANITIZE})
  # GCC 12 warns of std::regex's own code when it is instrumented (GCC bug 105562).
  target_compile_options(deeplab_options INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>)
endif()

# A program for each deeplab_<name>.cpp of the folder at hand: deeplab-<name>, with this library.
function(deeplab_programs library)
  file(GLOB programs CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/deeplab_*.cpp)
  foreach(source ${programs})
    get_filename_component(name ${source} NAME_WE)
    string(REPLACE _ - name ${name})
    add_executable(${name} ${source})
    set_property(GLOBAL APPEND PROPERTY DEEPLAB_PROGRAMS ${name})  # the bundle takes them
    target_link_libraries(${name} PRIVATE ${library})
  endforeach()
endfunction()
