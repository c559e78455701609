// Files of other kinds in place of weights: named as what they are, with what to do.
#include "deeplab/io/foreign.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "deeplab/base/text.h"
#include "deeplab/io/hdf5.h"
#include "harness/messages.h"
#include "harness/temp_dir.h"
#include "weights_files.h"

namespace deeplab::io {
namespace {

using ::testing::HasSubstr;
using namespace deeplab::testing;

class ForeignFiles : public ::testing::Test {
protected:
    std::filesystem::path written(const std::string& content) {
        const auto path = dir_ / "weights.pth";
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }
    std::string refused(const std::string& content) {
        return message_of<DataError>([&] { load_tensor_file(written(content)); });
    }
    static std::string archived(const std::vector<std::pair<std::string, std::string>>& entries) {
        return message_of<DataError>([&] { parse_pth(zip(entries), "test"); });
    }

    TempDir dir_;
};

TEST_F(ForeignFiles, AreNamedWithWhatToDo) {
    struct Case {
        std::string content, what, remedy;
    };
    const std::string pad(300, '\0');
    const std::vector<Case> cases = {
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 178728960\n",
         "Git LFS pointer", "git lfs pull"},
        {"/annex/objects/SHA256E-s1--0.pth\n", "git-annex pointer", "git annex get"},
        {"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "web site (HTML)", "the login"},
        {"\xef\xbb\xbf\n <HTML><head>", "web site (HTML)", "fetch the file again"},
        {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "XML", "the address"},
        {"{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"a\": \"1.safetensors\"}}",
         "split over several files", "merge"},
        {"{\"error\": \"not found\"}", "a text that begins with \"{\"error\"", "give a checkpoint"},
        {"Not Found\n", "a text that begins with \"Not Found\"", "give a checkpoint"},
        {"\x1f\x8b\x08" + pad, "gzip", "gunzip"},
        {"BZh9" + pad, "bzip2", "bunzip2"},
        {"\xfd"
         "7zXZ" +
             pad,
         "xz", "unxz"},
        {"\x28\xb5\x2f\xfd" + pad, "Zstandard", "unzstd"},
        {"\x08\x07\x12\x07pytorch" + pad, "ONNX", "model.state_dict()"},
        {"\x80\x04\x95" + pad, "pickle of protocol 4", "torch.save"},
        {"\x93NUMPY" + pad, "NumPy", "safetensors"},
        {std::string("\x1c\0\0\0TFL3", 8) + pad, "TensorFlow Lite", "safetensors"},
        {"MATLAB 5.0 MAT-file" + pad, "MATLAB", "safetensors"},
        {"GGUF" + pad, "GGUF", "ResNet"},
        {"\x89PNG\r\n" + pad, "PNG", "deeplab-predict"},
        {"\xff\xd8\xff\xe0" + pad, "JPEG", "deeplab-predict"},
        {pad, "not a weights file", "give a checkpoint"},
        {"", "it is empty", "a copy did not end"},
    };
    for (const Case& c : cases) {
        const std::string message = refused(c.content);
        EXPECT_THAT(message, HasSubstr(c.what));
        EXPECT_THAT(message, HasSubstr(c.remedy));
        EXPECT_EQ(message.find("damaged"), std::string::npos) << message;
    }
    EXPECT_THAT(message_of<DataError>([&] { load_tensor_file(dir_.path()); }),
                HasSubstr("Is a directory"));
    EXPECT_THAT(message_of<DataError>([&] { load_tensor_file(dir_ / "absent"); }),
                HasSubstr("No such file"));
}

TEST_F(ForeignFiles, ArchivesAreToldApart) {
    const std::string pickle = "\x80\x02}.";
    EXPECT_THAT(archived({{"m/data.pkl", pickle}, {"m/code/__torch__.py", "class"}}),
                HasSubstr("torch.jit.load(FILE).state_dict()"));
    EXPECT_THAT(archived({{"m/data.pkl", pickle}, {"m/constants.pkl", ""}}),
                HasSubstr("TorchScript"));
    EXPECT_THAT(archived({{"m/models/model.json", "{}"}}), HasSubstr("torch.export"));
    EXPECT_THAT(archived({{"config.json", "{}"}, {"model.weights.h5", ""}}), HasSubstr("Keras"));
    EXPECT_THAT(archived({{"a.npy", ""}}), HasSubstr(".npz"));
    EXPECT_THAT(archived({{"x/resnet50.pth", ""}}), HasSubstr("holds x/resnet50.pth"));
    EXPECT_THAT(archived({{"x/readme", ""}}), HasSubstr("without data.pkl"));
    // What is compressed is refused where it is needed, and only there.
    ByteVector bytes = zip({{"m/version", "3\n"}, {"m/data.pkl", pickle}});
    const auto compress = [&](const std::string& name) {
        std::string all(bytes.begin(), bytes.end());
        const std::size_t at = all.find("PK\1\2");
        const std::size_t entry = all.rfind("PK\1\2", all.find(name, at));
        all[entry + 10] = 8;
        return message_of<DataError>([&] { parse_pth(bytes_of(all), "test"); });
    };
    EXPECT_THAT(compress("m/data.pkl"), HasSubstr("compressed, which PyTorch never does"));
    EXPECT_THAT(compress("m/data.pkl"), HasSubstr("zip -0"));
    EXPECT_THAT(compress("m/version"), HasSubstr("no tensor"));
}

TEST_F(ForeignFiles, TarsAndPicklesOfOthers) {
    std::string tar(600, '\0');
    tar.replace(257, 5, "ustar");
    EXPECT_THAT(refused(tar), HasSubstr("tar archive"));
    const std::string message = refused("\x80\x02}q" + std::string(60, '\0'));
    EXPECT_THAT(message, HasSubstr("torch.save did not write it"));
    EXPECT_THAT(refused("\x80\x02\x8a"), HasSubstr("ends within PyTorch's magic number"));
}

// torch.save(model, FILE), and a checkpoint with objects beside the tensors.
TEST_F(ForeignFiles, ObjectsWithCodeAreToldFromStateDicts) {
    const auto parsed = [](const std::string& object) {
        return message_of<DataError>([&] { parse_pth(stream(object, {"1234"}), "test"); });
    };
    const std::string module = parsed(global("torchvision.models.resnet", "ResNet") + ")\x81");
    EXPECT_THAT(module, HasSubstr("torchvision.models.resnet.ResNet is refused"));
    EXPECT_THAT(module, HasSubstr("torch.save(model, FILE)"));
    EXPECT_THAT(module, HasSubstr("weights_only=False).state_dict(), OUT)"));
    const std::string beside = parsed("}(" + text("args") + global("argparse", "Namespace") +
                                      ")\x81u");
    EXPECT_THAT(beside, HasSubstr("argparse.Namespace is refused"));
    EXPECT_THAT(beside, HasSubstr("beside tensors"));
    EXPECT_THAT(beside, HasSubstr("[KEY], OUT)"));
    const std::string protocol = parsed("\x80\x04N");
    EXPECT_THAT(protocol, HasSubstr("protocol 4 is refused"));
    EXPECT_THAT(protocol, HasSubstr("torch.save(torch.load(FILE), OUT)"));
}

TEST_F(ForeignFiles, AStateDictIsFoundWhereScriptsKeepIt) {
    const std::string one = tensor(storage("0", 1), 0, {1}, {1});
    const auto dict = [&](const std::string& name) { return "}(" + text(name) + one + "u"; };
    const auto in = [](const std::string& items) { return "}(" + items + "u"; };
    const auto read = [](const std::string& object) {
        return parse_pth(stream(object, {"1234"}), "test");
    };
    TensorFile file = read(in(text("epoch") + "K\3" + text("model_ema") + dict("average") +
                              text("model") + dict("plain")));
    EXPECT_EQ(file.tensors.at(0).name, "plain");
    EXPECT_EQ(file.taken, "model");
    EXPECT_EQ(file.beside, std::vector<std::string>{"model_ema"});
    file = read(in(text("state_dict_ema") + dict("average")));
    EXPECT_EQ(file.tensors.at(0).name, "average");
    EXPECT_EQ(file.taken, "state_dict_ema");
    file = read(
        in(text("checkpoint") + "K\1" + text("model") + in(text("state_dict") + dict("inner"))));
    EXPECT_EQ(file.tensors.at(0).name, "inner");
    EXPECT_EQ(file.taken, "model.state_dict");
    // A tensor beside the state dict does not make the outer one a network.
    file = read(in(text("step") + one + text("state_dict") + dict("inner")));
    EXPECT_EQ(file.tensors.at(0).name, "inner");
    // A state dict as it comes.
    EXPECT_EQ(read(dict("w")).taken, "");
}

TEST_F(ForeignFiles, HDF5FilesOfOthersAndPointers) {
    written("version https://git-lfs.github.com/spec/v1\n");
    EXPECT_THAT(message_of<DataError>([&] { Hdf5Reader{dir_ / "weights.pth"}; }),
                HasSubstr("git lfs pull"));
}

TEST_F(ForeignFiles, ACutDownloadIsCalledCut) {
    const std::string header = R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})";
    EXPECT_THAT(message_of<DataError>(
                    [&] { parse_safetensors(safetensors(header, std::string(9, 'x')), "t"); }),
                HasSubstr("it is cut short"));
    const std::string whole = text_of(golden("types.pth"));
    EXPECT_THAT(
        message_of<DataError>([&] { parse_pth(bytes_of(whole.substr(0, whole.size() / 2)), "t"); }),
        HasSubstr("truncated"));
}

}  // namespace
}  // namespace deeplab::io
