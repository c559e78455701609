#pragma once
// What the system lets this process have, for messages that name the limit that was met.

#include <cstdint>
#include <string>

namespace deeplab {

// " (the address space of a process is limited to 976.6 MiB: ulimit -v)", or "" without a limit.
std::string memory_limit();

// Whether `bytes` more can be mapped now, as memory that code may run from or as plain memory. For
// libraries that do not look themselves.
bool can_map(std::int64_t bytes, bool executable);

// Whether so many more files can be open at once, and how many that are (" (…: ulimit -n)").
bool can_open(int files);
std::string file_limit();

}  // namespace deeplab
