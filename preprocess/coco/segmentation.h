#pragma once
// One member "segmentation", as the reader of the file meets it.

#include <cstdint>
#include <string>
#include <vector>

#include "shape.h"

namespace deeplab::preprocess::coco {

class Segmentation {
public:
    void start();  // of another annotation
    void start_polygons();
    void start_polygon();
    void end_polygon();
    void start_runs();
    // The numbers that follow are of the list "counts" or "size".
    void start_counts();
    void start_size();
    void end_list();
    void integer(std::int64_t value);  // of a polygon, "counts" or "size"
    void number(double value);         // likewise
    void counts(const std::string& text);
    void wrong(const std::string& reason);  // only the first reason counts

    // Appends the shape; why there is none, or "".
    std::string finish(Bytes& to);

private:
    enum class Kind { none, polygons, runs };
    enum class List { none, polygon, counts, size };

    void coordinate(double value);
    std::string finish_runs(Bytes& to);

    Kind kind_ = Kind::none;
    List list_ = List::none;
    bool has_counts_ = false;
    std::vector<double> polygon_;
    std::vector<std::vector<GridPoint>> polygons_;
    std::vector<std::int64_t> counts_, size_;
    std::string problem_;
};

}  // namespace deeplab::preprocess::coco
