// What a message advises fits its cause, the unusual ones too.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "deeplab/base/error.h"
#include "deeplab/base/files.h"
#include "deeplab/data/shard.h"
#include "deeplab/io/hdf5.h"
#include "deeplab/train/run_folder.h"
#include "deeplab/train/run_training.h"
#include "deeplab/weights/checkpoint.h"
#include "deeplab/weights/weights.h"
#include "harness/fake_backend.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab::train {
namespace {

namespace fs = std::filesystem;

std::string refusal(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}
void expect_part(const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
}
void expect_no_part(const std::string& text, const std::string& part) {
    EXPECT_EQ(text.find(part), std::string::npos) << part << " is in: " << text;
}

class Advice : public ::testing::Test {
protected:
    fs::path write(const std::string& name, const std::string& content) {
        fs::create_directories((dir_ / name).parent_path());
        std::ofstream(dir_ / name, std::ios::binary) << content;
        return dir_ / name;
    }
    std::string refused_weights(const fs::path& path) {
        return refusal([&] { const weights::WeightsFile file(path); });
    }

    testing::TempDir dir_;
};

TEST_F(Advice, AFolderOfWeightsNamesItsFiles) {
    write("hub/model.safetensors", "x");
    write("hub/readme.md", "x");
    expect_part(refused_weights(dir_ / "hub"), "name one of its files: model.safetensors");
    write("dcp/__0_0.distcp", "x");
    expect_part(refused_weights(dir_ / "dcp"), "format_utils dcp_to_torch");
    fs::create_directories(dir_ / "empty");
    expect_part(refused_weights(dir_ / "empty"), "name a checkpoint file or the folder of a run");
}

TEST_F(Advice, ALinkThatLeadsNowhereIsCalledOne) {
    fs::create_symlink("annex/objects/key", dir_ / "weights.pth");
    const std::string message = refused_weights(dir_ / "weights.pth");
    expect_part(message, "is a link to annex/objects/key, which is not there");
    expect_part(message, "git annex get");
    expect_part(refused_weights(dir_ / "absent.pth"), "there are no weights at");
    // A name below a file cannot be looked up at all.
    write("file", "x");
    expect_no_part(refused_weights(dir_ / "file/weights.pth"), "damaged");
}

TEST_F(Advice, HDF5FilesOfOthersAreNotDamaged) {
    {
        io::Hdf5Writer keras(dir_ / "keras.h5");
        keras.attribute("keras_version", std::string("2.15.0"));
        keras.close();
        io::Hdf5Writer other(dir_ / "other.h5");
        other.close();
    }
    testing::write_tiny_dataset(dir_ / "data", {.images = 2, .shards = 1});
    for (const auto& [file, what] :
         {std::pair{"keras.h5", "a Keras model"},
          {"other.h5", "but not a checkpoint"},
          {"data/train-00000-of-00001.h5", "a shard of packed images"}}) {
        const std::string message = refused_weights(dir_ / file);
        expect_part(message, what);
        expect_no_part(message, "damaged");
        expect_no_part(message, "another checkpoint of the run");
    }
}

TEST_F(Advice, AMissingSplitNamesThoseThatAreThere) {
    testing::write_tiny_dataset(dir_ / "data", {.split = "training", .images = 2});
    std::string message = refusal([&] { data::load_manifest(dir_ / "data", "train"); });
    expect_part(message, "the folder has: training");
    expect_part(message, "name one that is there");
    message = refusal([&] { data::load_manifest(dir_ / "nowhere", "train"); });
    expect_no_part(message, "the folder has");
    expect_part(message, "--images, --masks, --list and --classes");
}

TEST_F(Advice, AManifestThatIsAPointerIsCalledOne) {
    write("data/train.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    const std::string message = refusal([&] { data::load_manifest(dir_ / "data", "train"); });
    expect_part(message, "Git LFS pointer");
    expect_no_part(message, "damaged");
    write("data/train.json", "{");
    expect_part(refusal([&] { data::load_manifest(dir_ / "data", "train"); }),
                "restore the file or pack the split again");
}

TEST_F(Advice, AFileInPlaceOfTheDataFolderDoesExist) {
    TrainOptions options;
    options.data = write("train.json", "{}");
    options.run = dir_ / "run";
    testing::FakeBackend backend;
    const auto world = comm::make_self();
    const std::string message = refusal([&] { run_training(options, backend, *world, *world); });
    expect_part(message, "is a file");
    expect_no_part(message, "does not exist");
}

TEST_F(Advice, ALinkThatCannotBeMadeIsNotTheFileSystemsFault) {
    const std::string message = refusal(
        [&] { link_checkpoint(dir_ / "nowhere/step-0000001.h5", "latest.h5"); });
    expect_part(message, "check the folder");
    expect_no_part(message, "use a file system with symbolic links");
}

TEST_F(Advice, AFileThatIsMissingIsNotOnAList) {
    expect_no_part(refusal([&] { read_bytes(dir_ / "absent"); }), "take it off the list");
}

}  // namespace
}  // namespace deeplab::train
