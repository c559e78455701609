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
option(DEEPLAB_WERROR "Warnings are errors" ON)
option(DEEPLAB_NATIVE "Compile the host loops for this machine's processor" ON)
set(DEEPLAB_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

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
