#pragma once
// Logging to stderr. By default rank 0 alone prints information; a warning or error of another rank
// carries
// "[rank r @ host]". Thread-safe.

#include <string>

namespace deeplab::log {

// Tells the log who this process is; until then it is rank 0 of 1. Call once, after MPI is up.
void set_rank(int rank, int size);

void info(const std::string& message);   // printed by rank 0 only
void warn(const std::string& message);   // printed by every rank that calls it
void error(const std::string& message);  // printed by every rank that calls it

// As told by set_rank, else 0.
int rank();

// "" on rank 0 of 1, else "[rank r @ host] ".
std::string prefix();

// Host name without domain.
std::string host();

}  // namespace deeplab::log
