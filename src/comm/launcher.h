#pragma once
// Did the launcher of this process start ranks that MPI does not know of?

#include <functional>
#include <string>

namespace deeplab::comm {

// Why a program whose world has `size` ranks must not run: it was started several times over, by a
// launcher that this MPI library does not understand, and each copy would do the whole job alone.
// Empty: nothing is wrong. `variable` gives an environment variable's value, or null.
std::string launcher_problem(int size, bool mpi_built,
                             const std::function<const char*(const char*)>& variable);

bool mpi_built();

}  // namespace deeplab::comm
