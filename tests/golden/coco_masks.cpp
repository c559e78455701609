// What annotations of a file of COCO's instances cover: for coco_oracle.py. A line for each:
// its id, then compressed counts; or "refused" and why.
// usage: deeplab-coco-masks INSTANCES

#include <exception>
#include <iostream>
#include <unordered_map>

#include "instances.h"

using namespace deeplab::preprocess::coco;

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: deeplab-coco-masks INSTANCES\n";
        return 2;
    }
    try {
        const Instances instances = read_instances(argv[1]);
        for (const Problem& problem : instances.problems)
            std::cerr << problem.record << ": " << problem.reason << "\n";
        std::unordered_map<std::int64_t, const Picture*> pictures;
        for (const Picture& picture : instances.pictures) pictures[picture.id] = &picture;
        for (const Annotation& annotation : instances.annotations) {
            const Picture& picture = *pictures.at(annotation.picture);
            const auto shape = std::span(instances.shapes)
                                   .subspan(annotation.shape, annotation.shape_bytes);
            std::cout << annotation.id << " ";
            if (shape.empty() || !misfit(shape, picture.width, picture.height).empty())
                std::cout << "refused\n";
            else
                std::cout << compressed_counts(
                                 counts_of(region_of(shape, picture.width, picture.height),
                                           picture.width * picture.height))
                          << "\n";
        }
        return instances.problems.empty() ? 0 : 3;
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 3;
    }
}
