# cmake --install: programs, job scripts with their configurations, documents, module files. Nothing in it knows its prefix: the
# tree may be moved.
include(GNUInstallDirs)
set(share ${CMAKE_INSTALL_DATADIR}/${PROJECT_NAME})
get_property(programs GLOBAL PROPERTY DEEPLAB_PROGRAMS)

# Libraries of the prefix first (conda, Spack views), then where the linker found them.
file(RELATIVE_PATH bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
set_target_properties(${programs} PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}" INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS ${programs} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# What builds from a checkout stays there.
install(DIRECTORY jobs DESTINATION ${share} USE_SOURCE_PERMISSIONS
        PATTERN quickstart.sh EXCLUDE PATTERN setup.sh EXCLUDE PATTERN packages.txt EXCLUDE PATTERN spack.yaml EXCLUDE PATTERN deeplab.def EXCLUDE
        PATTERN Dockerfile EXCLUDE)
file(RELATIVE_PATH root_to_bin ${CMAKE_INSTALL_FULL_DATADIR}/${PROJECT_NAME} ${CMAKE_INSTALL_FULL_BINDIR})
file(WRITE ${CMAKE_BINARY_DIR}/generated/programs ${root_to_bin}\n)
install(FILES ${CMAKE_BINARY_DIR}/generated/programs DESTINATION ${share}/jobs/lib)  # jobs/lib/programs.sh reads it
install(FILES benchmarks/scaling_report.py benchmarks/scaling_model.py benchmarks/figures.py DESTINATION ${share}/benchmarks)  # jobs/scaling.sh's
install(DIRECTORY benchmarks/interconnects DESTINATION ${share}/benchmarks)
install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(modules ${CMAKE_INSTALL_DATADIR}/modulefiles/${PROJECT_NAME})
foreach(place BIN DATA)
  file(RELATIVE_PATH MODULE_TO_${place} ${CMAKE_INSTALL_FULL_DATADIR}/modulefiles/${PROJECT_NAME}
       ${CMAKE_INSTALL_FULL_${place}DIR})
endforeach()
foreach(ending .lua "")  # Lmod takes the first, Environment Modules the second
  configure_file(cmake/modulefile${ending}.in ${CMAKE_BINARY_DIR}/generated/modulefiles/${PROJECT_VERSION}${ending} @ONLY)
  install(FILES ${CMAKE_BINARY_DIR}/generated/modulefiles/${PROJECT_VERSION}${ending} DESTINATION ${modules})
endforeach()
