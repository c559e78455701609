# Run at every build (cmake -P): writes OUTPUT only when something in it changed, so that a commit recompiles version.cpp
# alone. Variables come from DeeplabVersion.cmake.
set(hash "")
find_program(GIT git)
if(GIT AND EXISTS ${SOURCE_DIR}/.git)
  execute_process(COMMAND ${GIT} -c safe.directory=* -C ${SOURCE_DIR} rev-parse --short=12 HEAD
                  OUTPUT_VARIABLE hash OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(failed)
    set(hash "")
  else()
    execute_process(COMMAND ${GIT} -c safe.directory=* -C ${SOURCE_DIR} status --porcelain --untracked-files=no
                    OUTPUT_VARIABLE changes ERROR_QUIET)
    if(changes)
      string(APPEND hash "+changes")
    endif()
  endif()
endif()
set(text "#define DEEPLAB_VERSION \"${VERSION}\"
#define DEEPLAB_GIT_HASH \"${hash}\"
#define DEEPLAB_COMPILER \"${COMPILER}\"
#define DEEPLAB_BUILD_TYPE \"${BUILD_TYPE}\"
#define DEEPLAB_FLAGS \"${FLAGS}\"
#define DEEPLAB_PARTS \"${PARTS}\"
")
set(old "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()
