#pragma once
// Where a file's tensors come from and where they belong; private to this folder.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "deeplab/model/backbone.h"
#include "deeplab/weights/weights.h"
#include "extents.h"
#include "names.h"

namespace deeplab::weights {

std::vector<std::string> tensor_names(const WeightsFile& file);

// "a plain ResNet-18, -50 or -101, or …": all families.
std::string wanted_backbones();

// DataError where no naming fits, several networks might be meant, or the network is known to be
// another function.
Names names_or_refuse(const WeightsFile& file);

// How the network stands in the file, where that is not plain.
std::vector<std::string> remarks_on(const WeightsFile& file, const Names& names);

// The file's tensors (their numbers) by our names. Two may not claim one place.
using Places = std::map<std::string, std::size_t>;
Places places_of(const WeightsFile& file, const Names& names,
                 std::vector<ImportedWeights::Row>& ignored);

Extents extents_at(const WeightsFile& file, const Places& places, const std::string& ours);
// Our name of the tensor whose input channels are those of the decoder's concatenation.
inline constexpr const char* first_of_decoder = "decoder.refine1.conv.weight";

std::int64_t classes_of(const WeightsFile& file, const Places& places);  // 0: no classifier
model::Recognised backbone_of(const WeightsFile& file, const Places& places);

}  // namespace deeplab::weights
