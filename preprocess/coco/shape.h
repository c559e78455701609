#pragma once
// The shape of an annotation in few bytes. A data set's shapes are held in memory as such until
// they are drawn: about 1.5 bytes a coordinate, where the text of the file has 7.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "region.h"

namespace deeplab::preprocess::coco {

using Bytes = std::vector<std::uint8_t>;

// Both append to `to`. A polygon has at least three vertices.
void put_polygons(Bytes& to, std::span<const std::vector<GridPoint>> polygons);
void put_counts(Bytes& to, std::int64_t width, std::int64_t height,
                std::span<const std::int64_t> counts);

// Why a shape cannot be drawn into a picture of this size (run lengths of another size, or that do
// not fill theirs); "" when it can.
std::string misfit(std::span<const std::uint8_t> shape, std::int64_t width, std::int64_t height);

// All that the shape covers: the union of its polygons. `shape` is as put, and misfit() found
// nothing.
Region region_of(std::span<const std::uint8_t> shape, std::int64_t width, std::int64_t height);

}  // namespace deeplab::preprocess::coco
