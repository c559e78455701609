// What a message advises fits its cause, the unusual ones too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
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
#include "harness/messages.h"
#include "harness/temp_dir.h"
#include "harness/tiny_dataset.h"

namespace deeplab::train {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

class Advice : public ::testing::Test {
protected:
    fs::path write(const std::string& name, const std::string& content) {
        fs::create_directories((dir_ / name).parent_path());
        std::ofstream(dir_ / name, std::ios::binary) << content;
        return dir_ / name;
    }
    std::string refused_weights(const fs::path& path) {
        return testing::message_of([&] { const weights::WeightsFile file(path); });
    }

    testing::TempDir dir_;
};

TEST_F(Advice, AFolderOfWeightsNamesItsFiles) {
    write("hub/model.safetensors", "x");
    write("hub/readme.md", "x");
    EXPECT_THAT(refused_weights(dir_ / "hub"),
                HasSubstr("name one of its files: model.safetensors"));
    write("dcp/__0_0.distcp", "x");
    EXPECT_THAT(refused_weights(dir_ / "dcp"), HasSubstr("format_utils dcp_to_torch"));
    fs::create_directories(dir_ / "empty");
    EXPECT_THAT(refused_weights(dir_ / "empty"),
                HasSubstr("name a checkpoint file or the folder of a run"));
}

TEST_F(Advice, ALinkThatLeadsNowhereIsCalledOne) {
    fs::create_symlink("annex/objects/key", dir_ / "weights.pth");
    const std::string message = refused_weights(dir_ / "weights.pth");
    EXPECT_THAT(message, HasSubstr("is a link to annex/objects/key, which is not there"));
    EXPECT_THAT(message, HasSubstr("git annex get"));
    EXPECT_THAT(refused_weights(dir_ / "absent.pth"), HasSubstr("there are no weights at"));
    // A name below a file cannot be looked up at all.
    write("file", "x");
    EXPECT_THAT(refused_weights(dir_ / "file/weights.pth"), Not(HasSubstr("damaged")));
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
        EXPECT_THAT(message, HasSubstr(what));
        EXPECT_THAT(message, Not(HasSubstr("damaged")));
        EXPECT_THAT(message, Not(HasSubstr("another checkpoint of the run")));
    }
}

TEST_F(Advice, AMissingSplitNamesThoseThatAreThere) {
    testing::write_tiny_dataset(dir_ / "data", {.split = "training", .images = 2});
    std::string message = testing::message_of([&] { data::load_manifest(dir_ / "data", "train"); });
    EXPECT_THAT(message, HasSubstr("the folder has: training"));
    EXPECT_THAT(message, HasSubstr("name one that is there"));
    message = testing::message_of([&] { data::load_manifest(dir_ / "nowhere", "train"); });
    EXPECT_THAT(message, Not(HasSubstr("the folder has")));
    EXPECT_THAT(message, HasSubstr("--images, --masks, --list and --classes"));
}

TEST_F(Advice, AManifestThatIsAPointerIsCalledOne) {
    write("data/train.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    const std::string message = testing::message_of(
        [&] { data::load_manifest(dir_ / "data", "train"); });
    EXPECT_THAT(message, HasSubstr("Git LFS pointer"));
    EXPECT_THAT(message, Not(HasSubstr("damaged")));
    write("data/train.json", "{");
    EXPECT_THAT(testing::message_of([&] { data::load_manifest(dir_ / "data", "train"); }),
                HasSubstr("restore the file or pack the split again"));
}

TEST_F(Advice, AFileInPlaceOfTheDataFolderDoesExist) {
    TrainOptions options;
    options.data = write("train.json", "{}");
    options.run = dir_ / "run";
    testing::FakeBackend backend;
    const auto world = comm::make_self();
    const std::string message = testing::message_of(
        [&] { run_training(options, backend, *world, *world); });
    EXPECT_THAT(message, HasSubstr("is a file"));
    EXPECT_THAT(message, Not(HasSubstr("does not exist")));
}

TEST_F(Advice, ALinkThatCannotBeMadeIsNotTheFileSystemsFault) {
    const std::string message = testing::message_of(
        [&] { link_checkpoint(dir_ / "nowhere/step-0000001.h5", "latest.h5"); });
    EXPECT_THAT(message, HasSubstr("check the folder"));
    EXPECT_THAT(message, Not(HasSubstr("use a file system with symbolic links")));
}

TEST_F(Advice, AFileThatIsMissingIsNotOnAList) {
    EXPECT_THAT(testing::message_of([&] { read_bytes(dir_ / "absent"); }),
                Not(HasSubstr("take it off the list")));
}

}  // namespace
}  // namespace deeplab::train
