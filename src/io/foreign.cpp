#include "deeplab/io/foreign.h"

#include <algorithm>
#include <string_view>

#include "deeplab/base/text.h"
#include "tensor_file.h"

namespace deeplab::io {

namespace {

struct Signature {
    std::size_t at;
    std::string_view bytes;
    const char *what, *remedy;
};

constexpr const char*
    fetch_again = "fetch the file again, and look at the address, the login and the size";
constexpr const char* unpack = "unpack it and give the file inside";
constexpr const char* from_keras =
    "load the model where it comes from and save its tensors as safetensors or with torch.save, "
    "under the names of torchvision's ResNets";

using namespace std::string_view_literals;

constexpr Signature signatures[] = {
    {0, "version https://git-lfs"sv, "a Git LFS pointer, not the file itself",
     "fetch the file itself: git lfs pull, in the clone"},
    {0, "version https://hawser"sv, "a Git LFS pointer, not the file itself",
     "fetch the file itself: git lfs pull, in the clone"},
    {0, "/annex/objects/"sv, "a git-annex pointer, not the file itself",
     "fetch the file itself: git annex get, in the clone"},
    {0, "\x1f\x8b"sv, "compressed with gzip", "unpack it with gunzip, or tar -xzf"},
    {0, "BZh"sv, "compressed with bzip2", "unpack it with bunzip2, or tar -xjf"},
    {0,
     "\xfd"
     "7zXZ"sv,
     "compressed with xz", "unpack it with unxz, or tar -xJf"},
    {0, "\x28\xb5\x2f\xfd"sv, "compressed with Zstandard", "unpack it with unzstd"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7z archive", unpack},
    {0, "Rar!"sv, "a RAR archive", unpack},
    {0, "\x93NUMPY"sv, "an array of NumPy (.npy)",
     "a network has many tensors: save them as safetensors or with torch.save"},
    {0, "GGUF"sv, "a GGUF file, as language models have them", "give weights of a ResNet"},
    {4, "TFL3"sv, "a model of TensorFlow Lite", from_keras},
    {0, "MATLAB"sv, "a file of MATLAB",
     "save its arrays as safetensors or with torch.save, under the names of torchvision's "
     "ResNets"},
    {0, "\x89PNG"sv, "a PNG picture", "give weights here; pictures go to deeplab-predict"},
    {0, "\xff\xd8\xff"sv, "a JPEG picture", "give weights here; pictures go to deeplab-predict"},
    {0, "%PDF"sv, "a PDF document", fetch_again},
};

std::string lower(std::string_view text) {
    std::string made(text);
    for (char& c : made) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return made;
}

// Markup and JSON, most of it from servers.
std::optional<ForeignFile> foreign_text(std::string_view head) {
    if (head.starts_with("\xef\xbb\xbf")) head.remove_prefix(3);  // a byte order mark
    const std::string text = lower(
        head.substr(std::min(head.size(), head.find_first_not_of(" \t\r\n"))));
    if (text.starts_with("<!doctype html") || text.starts_with("<html") ||
        text.starts_with("<head"))
        return ForeignFile{"a page of a web site (HTML)", fetch_again};
    if (text.starts_with("<?xml") || text.starts_with("<error"))
        return ForeignFile{"an XML text, as a server's error message is", fetch_again};
    if (text.starts_with('{') && text.find("\"weight_map\"") != std::string::npos) {
        return ForeignFile{
            "the index of a network that is split over several files",
            "merge the files that it names into one: in Python, load each with safetensors or "
            "torch.load, put all into one dict, and save that"};
    }
    return std::nullopt;
}

}  // namespace

std::optional<ForeignFile> foreign_file(std::span<const unsigned char> bytes) {
    const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const Signature& s : signatures) {
        if (head.size() >= s.at && head.substr(s.at).starts_with(s.bytes))
            return ForeignFile{s.what, s.remedy};
    }
    // Protocol buffers: the version of the format (a small number), then the producer's name.
    if (head.size() > 3 && head[0] == '\x08' && head[1] > 0 && head[1] < 32 && head[2] == '\x12') {
        return ForeignFile{"a model in ONNX, which holds operators, not a state dict",
                           "take the weights of the model that it was exported from: "
                           "torch.save(model.state_dict(), FILE)"};
    }
    if (head.size() > 1 && head[0] == '\x80' && head[1] > 2 && head[1] <= 5) {
        return ForeignFile{
            cat("a pickle of protocol ", static_cast<int>(head[1]),
                " that torch.save did not write as it does by default"),
            "pickles run code when Python loads them, so only torch.save's are read here: load it "
            "in Python where you trust it, and write it with torch.save(state_dict, FILE)"};
    }
    return foreign_text(head);
}

}  // namespace deeplab::io
