// PyTorch's .pth. The first byte chooses what the rest is: a whole file, or the object's pickle in
// a stream or in a zip whose checksums are right.

#include <numeric>

#include "deeplab/base/error.h"
#include "deeplab/io/tensor_file.h"
#include "fuzz/target.h"
#include "io/weights_files.h"

namespace deeplab::fuzz {
namespace {

enum : std::uint8_t { whole, stream, archive };

const std::vector<std::string>& storages() {
    static const std::vector<std::string> made = {std::string(24, '\1'), std::string(8, '\2')};
    return made;
}

Bytes file_of(std::uint8_t kind, const std::string& rest) {
    switch (kind % 3) {
        case stream: return testing::stream(rest, storages());
        case archive: return testing::archive(rest, storages());
        default: return bytes_of(rest);
    }
}

}  // namespace

void consume(std::span<const std::uint8_t> input) {
    if (input.empty()) return;
    const io::TensorFile file = io::parse_pth(file_of(input[0], text_of(input.subspan(1))), "fuzz");
    require(!file.tensors.empty(), "a file without tensors is refused");
    for (const io::StoredTensor& t : file.tensors) {
        const unsigned char *begin = file.bytes.data(), *end = begin + file.bytes.size();
        require(
            t.bytes.empty() || (t.bytes.data() >= begin && t.bytes.data() + t.bytes.size() <= end),
            "a tensor lies in its file");
        require(static_cast<std::size_t>(t.elements()) <= file.bytes.size(),
                "a tensor is not larger than its file");
        io::to_f32(t);
    }
}

std::vector<Bytes> seeds() {
    using namespace testing;
    const std::string dict = global("collections", "OrderedDict") + ")R";
    const std::string parameter = global("torch._utils", "_rebuild_parameter") + "(" +
                                  tensor(storage("1", 2), 0, {2}, {1}) + "\x88" + dict + "tR";
    const std::string old = global("torch.nn.parameter", "Parameter") + "(" +
                            global("torch._utils", "_rebuild_tensor") + "(" + storage("1", 2) +
                            integer(1) + tuple({1}) + tuple({1}) + "tRtR(\x88\x89NtbU";
    const std::string number = global("numpy.core.multiarray", "scalar") + "(" +
                               global("numpy", "dtype") + "(U\2f8K\0K\1tR(K\3tb" +
                               global("_codecs", "encode") + "(" + text("12345678") +
                               text("latin1") + "tRtR";
    const std::string both = ordered_dict(text("a") + tensor(storage("0", 6), 1, {2, 2}, {1, 2}) +
                                          text("b") + parameter) +
                             "}" + text("_metadata") + dict + "sb";
    const std::string script = "}(" + text("epoch") + integer(300) + text("miou") + number +
                               text("state_dict") + both + text("lr") + "G12345678" + "u";
    std::vector<Bytes> all;
    for (const std::string& object :
         {both, script, "}" + text("c") + old.substr(0, old.size() - 1) + "s"}) {
        for (const std::uint8_t kind : {stream, archive}) {
            all.push_back(bytes_of(static_cast<char>(kind) + object));
            const Bytes file = file_of(kind, object);
            all.push_back({whole});
            all.back().insert(all.back().end(), file.begin(), file.end());
        }
    }
    for (const char* name : {"types.pth", "types_stream.pth"})
        all.push_back(bytes_of('\0' + testing::text_of(golden(name))));
    return all;
}

std::vector<std::string> dictionary() {
    using testing::global;
    std::vector<std::string> words = {"PK\1\2",        "PK\3\4",     "PK\5\6",  "PK\6\6",
                                      "PK\6\7",        "state_dict", "storage", "cpu",
                                      "little_endian", "_metadata"};
    for (const char* name :
         {"FloatStorage", "HalfStorage", "LongStorage", "BoolStorage", "Size", "FloatTensor"})
        words.push_back(global("torch", name));
    for (const char* name : {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"})
        words.push_back(global("torch._utils", name));
    words.push_back(global("torch.nn.parameter", "Parameter"));
    words.push_back(global("collections", "OrderedDict"));
    words.push_back(global("os", "system"));
    words.push_back(testing::storage("0", 6));
    words.push_back(testing::storage("1", 2));
    words.push_back(testing::tensor(testing::storage("0", 6), 0, {2, 3}, {3, 1}));
    words.push_back("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f");
    return words;
}

}  // namespace deeplab::fuzz
