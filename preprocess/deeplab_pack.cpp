// deeplab-pack: a folder of images and masks becomes sharded HDF5 (the format: README.md of this
// folder).

#include "deeplab/base/command_line.h"
#include "deeplab/base/error.h"
#include "pack.h"

using namespace deeplab;

namespace {

int run(int argc, char** argv, comm::MpiSession& session) {
    preprocess::PackOptions options;
    std::string voc, images, masks, list, out, classes, encoding = "source", missing = "fail";
    CommandLine line("deeplab-pack", "Packs images and masks of a VOC folder into sharded HDF5.",
                     "deeplab-pack --voc VOCdevkit --split train_aug --out shards\n"
                     "mpirun -np 8 deeplab-pack --voc VOCdevkit --split val --out shards\n"
                     "deeplab-pack --images leftImg --masks labels --list train.txt --classes "
                     "classes.toml --out shards\n"
                     "deeplab-pack verify shards");
    const auto path = [](const char* name) { return CommandLine::Use{false, {}, name}; };
    line.option("--voc", voc, "VOC folder: VOCdevkit/VOC2012, VOCdevkit or its parent",
                path("DIR"));
    line.option("--split", options.split, "list of ImageSets/Segmentation, or a file of ids",
                path("NAME"));
    line.option("--out", out, "folder for the shards and the manifest", path("DIR"));
    line.option("--masks", masks,
                "masks; of a VOC folder SegmentationClassAug, else SegmentationClass", path("DIR"));
    line.option("--images", images, "images, when there is no VOC folder", path("DIR"));
    line.option("--list", list, "ids, one a line, when there is no VOC folder", path("FILE"));
    line.option("--shards", options.shards, "number of shards; 0: about 64 MB each");
    line.option("--encoding", encoding, "source: the files' own bytes; raw: decoded pixels",
                CommandLine::Use{false, {"source", "raw"}, ""});
    line.option("--classes", classes, "names and colours of the classes (TOML); VOC's by default",
                path("FILE"));
    line.option("--missing", missing, "what to do with ids whose image or mask is missing",
                CommandLine::Use{false, {"fail", "skip"}, ""});
    line.flag("--force", options.force, "replace a split that is already packed in --out");
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
    if (out.empty())
        throw UsageError("--out is missing — it says where the shards go — add --out DIR");
    options.voc = voc;
    options.images = images;
    options.masks = masks;
    options.list = list;
    options.out = out;
    options.classes = classes;
    options.encoding = encoding == "raw" ? data::Encoding::raw : data::Encoding::source;
    options.skip_missing = missing == "skip";
    return preprocess::pack(options, comm);
}

}  // namespace

int main(int argc, char** argv) {
    comm::MpiSession session(&argc, &argv);
    return comm::run_guarded(session, [&] { return run(argc, argv, session); });
}
