// deeplab-pack: a folder of images and masks becomes sharded HDF5 (the format: README.md of this
// folder).

#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "deeplab/base/text.h"
#include "pack.h"

using namespace deeplab;

namespace {

// What the options of the command line are bound to.
struct Arguments {
    std::string voc, images, masks, list, out, classes, coco, map;
    std::string encoding = "source", missing = "fail";
    std::string overlap = "small-on-top", crowd = "ignore", empty = "drop";
};

CommandLine::Use path(const char* name) { return {false, {}, name}; }
CommandLine::Use one_of(std::vector<std::string> choices) {
    return {false, std::move(choices), ""};
}

void add_options(CommandLine& line, Arguments& given, preprocess::PackOptions& options) {
    line.option("--voc", given.voc, "VOC folder: VOCdevkit/VOC2012, VOCdevkit or its parent",
                path("DIR"));
    line.option(
        "--split", options.split,
        "list of ImageSets/Segmentation, or a file of ids; without a VOC folder the split's "
        "name",
        path("NAME"));
    line.option("--out", given.out, "folder for the shards and the manifest", path("DIR"));
    line.option("--masks", given.masks,
                "masks; of a VOC folder SegmentationClassAug, else SegmentationClass", path("DIR"));
    line.option("--images", given.images, "images, when there is no VOC folder", path("DIR"));
    line.option("--list", given.list,
                "ids, one a line, when there is no VOC folder; without it all pictures below "
                "--images are taken",
                path("FILE"));
    line.option("--image-suffix", options.image_suffix,
                "how names of images go on behind their ids, e.g. _leftImg8bit.png", path("TEXT"));
    line.option("--mask-suffix", options.mask_suffix,
                "the same of masks, e.g. _gtFine_labelIds.png or _mask", path("TEXT"));
    line.option("--shards", options.shards, "number of shards; 0: about 64 MB each");
    line.option("--encoding", given.encoding, "source: the files' own bytes; raw: decoded pixels",
                one_of({"source", "raw"}));
    line.option("--classes", given.classes,
                "names and colours of the classes (TOML); VOC's by default", path("FILE"));
    line.option("--missing", given.missing, "what to do with ids whose image or mask is missing",
                one_of({"fail", "skip"}));
    line.flag("--force", options.force, "replace a split that is already packed in --out");
}

void add_coco_options(CommandLine& line, Arguments& given, preprocess::coco::Options& options) {
    line.option("--coco", given.coco, "COCO's instances (JSON); masks are drawn from them",
                path("FILE"));
    line.option("--map", given.map,
                "with --coco: the classes and the categories of each (TOML), for example "
                "jobs/configs/coco_voc21.toml",
                path("FILE"));
    line.option("--min-pixels", options.min_pixels,
                "with --coco: pack images with more labelled pixels than this; 0: all");
    line.option("--min-area", options.min_area,
                "with --coco: pack images whose annotations' areas add up to more; 0: all");
    line.option("--overlap", given.overlap,
                "with --coco: which annotation has a pixel of several; ignore: none",
                one_of({"small-on-top", "first", "last", "ignore"}));
    line.option("--crowd", given.crowd,
                "with --coco: ignore pixels of crowds that nothing else covers, or draw crowds as "
                "any annotation",
                one_of({"ignore", "draw"}));
    line.option("--empty", given.empty,
                "with --coco: images without an annotation of the map's categories",
                one_of({"drop", "keep"}));
}

preprocess::coco::Overlap overlap_of(const std::string& name) {
    using preprocess::coco::Overlap;
    for (const Overlap overlap : {Overlap::first, Overlap::last, Overlap::ignore})
        if (name == preprocess::coco::name(overlap)) return overlap;
    return Overlap::small_on_top;
}

void take(const Arguments& given, const CommandLine& line, preprocess::PackOptions& options) {
    if (given.out.empty())
        throw UsageError("--out is missing — it says where the shards go — add --out DIR");
    options.voc = given.voc;
    options.images = given.images;
    options.masks = given.masks;
    options.list = given.list;
    options.out = given.out;
    options.classes = given.classes;
    options.encoding = given.encoding == "raw" ? data::Encoding::raw : data::Encoding::source;
    options.skip_missing = given.missing == "skip";
    options.coco.file = given.coco;
    options.coco.map = given.map;
    options.coco.overlap = overlap_of(given.overlap);
    options.coco.draw_crowds = given.crowd == "draw";
    options.coco.keep_empty = given.empty == "keep";
    for (const char* name :
         {"--map", "--min-pixels", "--min-area", "--overlap", "--crowd", "--empty"})
        if (given.coco.empty() && line.given(name))
            throw UsageError(cat(name,
                                 " without --coco — it says how COCO's annotations become "
                                 "masks — add --coco FILE, or leave it out"));
}

int run(int argc, char** argv, comm::MpiSession& session) {
    preprocess::PackOptions options;
    Arguments given;
    CommandLine line("deeplab-pack",
                     "Packs images and masks, or COCO's annotations, into sharded HDF5.",
                     "deeplab-pack --voc VOCdevkit --split train_aug --out shards\n"
                     "mpirun -np 8 deeplab-pack --voc VOCdevkit --split val --out shards\n"
                     "deeplab-pack --images leftImg --masks labels --list train.txt --classes "
                     "classes.toml --out shards\n"
                     "deeplab-pack --images leftImg8bit/train --masks gtFine/train --image-suffix "
                     "_leftImg8bit.png --mask-suffix _gtFine_labelIds.png --split train --classes "
                     "jobs/classes/cityscapes.toml --out shards\n"
                     "deeplab-pack --coco instances_train2017.json --images train2017 --map "
                     "jobs/configs/coco_voc21.toml --out shards\n"
                     "deeplab-pack verify shards");
    add_options(line, given, options);
    add_coco_options(line, given, options.coco);
    CommandLine& verify = line.command("verify",
                                       "Checks every record of every split in a folder of shards");
    std::vector<std::string> folder;
    verify.positional("DIR", folder, "folder of shards", true);
    if (!line.parse(argc, argv)) return 0;
    comm::Communicator& comm = session.world();

    if (verify.chosen()) {
        if (folder.size() != 1)
            throw UsageError("verify takes one folder — give its path — deeplab-pack verify DIR");
        return preprocess::verify(folder[0], comm);
    }
    take(given, line, options);
    return preprocess::pack(options, comm);
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] { return run(argc, argv, session); });
}
