# deeplab_tests(folder libraries…): finds the folder's tests, builds them and tells ctest.
include(GoogleTest)
set(DEEPLAB_TEST_TIMEOUT 1200 CACHE STRING "Seconds after which ctest ends a test")

function(deeplab_test_program target sources libraries)
  add_executable(${target} ${sources})
  list(TRANSFORM libraries PREPEND deeplab_)
  target_link_libraries(${target} PRIVATE deeplab_harness ${libraries})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  # The tests' own code need not be fast: half the time to compile (what they compare with is in the harness).
  target_compile_options(${target} PRIVATE -O0)
endfunction()

# The tests NAME.1_rank, NAME.2_ranks and NAME.3_ranks: a program with harness/mpi_main.cpp, on one, two and three ranks.
function(deeplab_test_ranks name target label)
  add_test(NAME ${name}.1_rank COMMAND ${target})
  set(names ${name}.1_rank)
  if(DEEPLAB_HAVE_MPI)
    separate_arguments(flags UNIX_COMMAND "${mpirun_flags}")
    foreach(ranks 2 3)
      add_test(NAME ${name}.${ranks}_ranks COMMAND ${mpirun} ${flags} -np ${ranks} $<TARGET_FILE:${target}>)
      set_tests_properties(${name}.${ranks}_ranks PROPERTIES PROCESSORS ${ranks})
      list(APPEND names ${name}.${ranks}_ranks)
    endforeach()
  endif()
  set_tests_properties(${names} PROPERTIES LABELS "${label};mpi" TIMEOUT ${DEEPLAB_TEST_TIMEOUT} COST 100
    ENVIRONMENT
    "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_WAIT_POLICY=passive;OMP_NUM_THREADS=1")
endfunction()

function(deeplab_tests folder)
  file(GLOB serial CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cpp)
  set(parallel ${serial})
  list(FILTER parallel INCLUDE REGEX "_mpi_test\\.cpp$")
  list(FILTER serial EXCLUDE REGEX "_mpi_test\\.cpp$")

  if(serial)
    deeplab_test_program(${folder}_tests "${serial}" "${ARGN}")
    target_link_libraries(${folder}_tests PRIVATE GTest::gtest_main)
    # Listing waits for ctest: a program that cannot start must not break the build. A test with "Slow" in its name takes
    # more than a few seconds ("ctest -E Slow" leaves those out). Stops have seconds to be heard in: they run alone.
    set(discovery DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 TEST_PREFIX "${folder}.")
    set(properties TIMEOUT ${DEEPLAB_TEST_TIMEOUT} LABELS ${folder})
    gtest_discover_tests(${folder}_tests ${discovery} TEST_FILTER "-*Stop*" PROPERTIES ${properties})
    gtest_discover_tests(${folder}_tests ${discovery} TEST_FILTER "*Stop*" PROPERTIES ${properties} RUN_SERIAL ON)
  endif()

  if(parallel)
    deeplab_test_program(${folder}_mpi_tests "${parallel};${PROJECT_SOURCE_DIR}/tests/harness/mpi_main.cpp" "${ARGN}")
    deeplab_test_ranks(${folder}_mpi ${folder}_mpi_tests ${folder})
  endif()
endfunction()
