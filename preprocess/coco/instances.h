#pragma once
// COCO's file of instances: images, categories, and annotations whose shapes are polygons or run
// lengths. The file is read as a stream; shapes are kept in few bytes.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "shape.h"

namespace deeplab::preprocess::coco {

struct Picture {
    std::int64_t id = 0, width = 0, height = 0;
    std::string file_name;
};

struct Annotation {
    std::int64_t id = 0, picture = 0, category = 0;  // ids
    double area = 0;                                 // NaN: the file gives none
    std::uint64_t shape = 0;                         // where it begins in Instances::shapes
    std::uint32_t shape_bytes = 0;                   // 0: there is none, a ShapeProblem says why
    bool crowd = false;
};

struct Category {
    std::int64_t id = 0;
    std::string name;
};

struct Problem {
    std::string record, reason;
};
// Of an annotation that is good but for its shape: it matters where its category is packed.
struct ShapeProblem {
    std::size_t annotation = 0;  // index in Instances::annotations
    std::string reason;
};

// In the file's order. What lacks a member that it needs is not listed but among the problems.
struct Instances {
    std::vector<Picture> pictures;
    std::vector<Annotation> annotations;
    std::vector<Category> categories;
    Bytes shapes;
    std::vector<Problem> problems;
    std::vector<ShapeProblem> shape_problems;
};

// The most that is said of a file; what follows is not looked at.
constexpr std::size_t kMostProblems = 10000;

// DataError when the file is no JSON or has no images, annotations and categories.
Instances read_instances(const std::filesystem::path& file);

}  // namespace deeplab::preprocess::coco
