// PyTorch's .pth: a zip with data.pkl and data/<key> since 1.6; before that a stream of pickles
// (magic number, protocol version, system, the object, keys of the storages) and then the storages.

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>

#include "pickle.h"
#include "zip.h"

namespace deeplab::io {
namespace {

using Kind = PickleNode::Kind;
using Storages = std::unordered_map<std::string_view, Bytes>;

class PthReader {
public:
    PthReader(Bytes bytes, const std::string& what)
        : bytes_(bytes), what_(what + " (PyTorch .pth)") {}

    void read(TensorFile& file) {
        const bool zip = bytes_.size() >= 2 && bytes_[0] == 'P' && bytes_[1] == 'K';
        file.kind = zip ? "PyTorch .pth (zip)" : "PyTorch .pth (the older stream)";
        zip ? read_archive() : read_stream();
        collect(state_dict(file), file);
    }

private:
    [[noreturn]] void fail(const std::string& problem) const { refuse(what_, problem); }

    static std::string_view text_of(Bytes bytes) {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }

    // --- The zip ---
    bool holds(std::string_view end) const {
        return std::any_of(entries_.begin(), entries_.end(),
                           [&](const ZipEntry& entry) { return entry.name.ends_with(end); });
    }
    bool holds_folder(const std::string& inside) const {
        return std::any_of(entries_.begin(), entries_.end(), [&](const ZipEntry& entry) {
            return entry.name.find(inside) != std::string::npos;
        });
    }

    // Archives of other programs, by the names in them.
    void check_kind() const {
        const char* why = "it is not the file of a state dict";
        if (holds("/constants.pkl") || holds_folder("/code/")) {
            refuse_kind(what_, "it is a TorchScript program, not a state dict",
                        "its tensors stand in code, which this program does not run",
                        "take them out in Python: torch.save(torch.jit.load(FILE).state_dict(), "
                        "OUT)");
        }
        if (holds("serialized_exported_program.json") || holds_folder("/models/")) {
            refuse_kind(what_, "it is a program of torch.export, not a state dict", why,
                        "take its tensors out in Python: "
                        "torch.save(torch.export.load(FILE).state_dict, OUT)");
        }
        if (holds("model.weights.h5")) {
            refuse_kind(what_, "it is a Keras model", why,
                        "save its tensors as safetensors or with torch.save, under the names of "
                        "torchvision's ResNets");
        }
        if (holds(".npy"))
            refuse_kind(what_, "it is an archive of NumPy arrays (.npz)", why,
                        "save them as safetensors or with torch.save, under the names of "
                        "torchvision's ResNets");
        for (const char* weights : {".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".h5"}) {
            for (const ZipEntry& entry : entries_) {
                if (!entry.name.ends_with(weights)) continue;
                refuse_kind(what_, cat("it is a zip archive that holds ", shown(entry.name)), why,
                            "unpack it and give that file");
            }
        }
    }

    void read_archive() {
        entries_ = read_zip(bytes_, what_);
        check_kind();
        std::unordered_map<std::string_view, const ZipEntry*> by_name;
        std::string folder;
        const std::string suffix = "/data.pkl";
        for (const ZipEntry& entry : entries_) {
            by_name[entry.name] = &entry;
            const std::size_t slash = entry.name.find('/');
            if (slash == std::string::npos || entry.name.substr(slash) != suffix) continue;
            if (!folder.empty()) fail("it holds several data.pkl");
            folder = entry.name.substr(0, slash);
        }
        if (folder.empty()) {
            refuse_kind(what_, "it is a zip archive without data.pkl, so none of PyTorch",
                        "there is no state dict in it", "give a file that torch.save wrote");
        }
        const auto entry = [&](const std::string& name) -> const ZipEntry* {
            const auto found = by_name.find(name);
            return found == by_name.end() ? nullptr : found->second;
        };
        if (const ZipEntry* order = entry(folder + "/byteorder"); order != nullptr) {
            check_crc(*order, what_);
            if (text_of(order->bytes) != "little") fail("its numbers are not little-endian");
        }
        const ZipEntry& data = *entry(folder + suffix);
        check_crc(data, what_);
        pickle_ = read_pickle(data.bytes, 0, what_, "data.pkl");
        if (pickle_.end != data.bytes.size()) fail("data.pkl does not end with its pickle");
        for (const PickledStorage& storage : pickle_.storages) {
            if (storages_.contains(storage.key)) continue;
            const ZipEntry* found = entry(cat(folder, "/data/", storage.key));
            if (found == nullptr) fail(cat("the storage ", shown(storage.key), " is missing"));
            check_crc(*found, what_);
            storages_[storage.key] = found->bytes;
        }
        check_storages();
    }

    // --- The stream ---
    void read_stream() {
        // Protocol 2, a long of 10 bytes, 0x1950a86a20f9469cfc6c, STOP.
        constexpr std::array<unsigned char, 15> magic = {
            0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
        if (bytes_.size() < magic.size())
            fail("it ends within PyTorch's magic number, which begins the file");
        if (text_of(bytes_.subspan(std::min<std::size_t>(bytes_.size(), 257))).starts_with("ustar"))
            refuse_kind(what_, "it is a tar archive", "it is not the file of a state dict",
                        "unpack it and give the file inside; what PyTorch before 0.1.10 wrote as a "
                        "tar must be written again with torch.save");
        if (!std::equal(magic.begin(), magic.end(), bytes_.begin()))
            refuse_kind(what_,
                        "it is a pickle that does not begin with PyTorch's magic number, so "
                        "torch.save did not write it",
                        "pickles run code when Python loads them, so only torch.save's are read",
                        "load it in Python where you trust it, and write it with "
                        "torch.save(state_dict, FILE)");
        const Pickle version = read_pickle(bytes_, magic.size(), what_, "protocol version");
        if (version.at(version.root).kind != Kind::integer ||
            version.at(version.root).number != 1001)
            fail("its protocol version is not 1001");
        const Pickle system = read_pickle(bytes_, version.end, what_, "system");
        const PickleNode* little = system.find(system.at(system.root), "little_endian");
        if (little == nullptr || little->kind != Kind::boolean || little->number != 1)
            fail("its numbers are not little-endian");
        pickle_ = read_pickle(bytes_, system.end, what_, "object");
        keys_ = read_pickle(bytes_, pickle_.end, what_, "keys of the storages");

        std::unordered_map<std::string_view, ElementType> types;
        for (const PickledStorage& storage : pickle_.storages) types[storage.key] = storage.type;
        std::size_t at = keys_.end;
        const PickleNode& keys = keys_.at(keys_.root);
        if (keys.kind != Kind::list) fail("the keys of its storages are no list");
        for (const std::uint32_t item : keys.items) {
            const std::string_view key = keys_.at(item).text;
            const auto type = types.find(key);
            if (type == types.end()) fail(cat("nothing needs the storage ", shown(key)));
            if (bytes_.size() - at < 8) fail(cat("it ends before the storage ", shown(key)));
            const auto elements = little_endian<std::uint64_t>(bytes_, at);
            at += 8;
            std::uint64_t size = 0;
            if (!multiply(elements, size_of(type->second), bytes_.size() - at, size))
                fail(cat("the storage ", shown(key), " reaches beyond the file"));
            if (!storages_.emplace(key, bytes_.subspan(at, static_cast<std::size_t>(size))).second)
                fail(cat("the storage ", shown(key), " stands twice"));
            at += static_cast<std::size_t>(size);
        }
        if (at != bytes_.size()) fail(cat("unknown bytes follow at ", at));
        check_storages();
    }

    // What the pickle says of a storage is what the file holds, whoever refers to it.
    void check_storages() const {
        for (const PickledStorage& storage : pickle_.storages) {
            const auto found = storages_.find(storage.key);
            if (found == storages_.end())
                fail(cat("the storage ", shown(storage.key), " is missing"));
            std::uint64_t size = 0;
            if (!multiply(static_cast<std::uint64_t>(storage.elements), size_of(storage.type),
                          found->second.size(), size) ||
                size != found->second.size()) {
                fail(cat("the storage ", shown(storage.key), " has ", found->second.size(),
                         " bytes and should have ", storage.elements, " ", name(storage.type)));
            }
        }
    }

    // --- What they hold ---
    // Keys under which training scripts keep state dicts; averaged ones come last.
    static constexpr std::array<std::string_view, 7> plain_keys = {
        "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module"};
    static constexpr std::array<std::string_view, 8> averaged_keys = {
        "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema",
        "averaged_model", "swa_model",      "model_swa"};

    // A state dict itself, or a training script's dict with one in it: the model's own before an
    // averaged one.
    const PickleNode& state_dict(TensorFile& file) const {
        const PickleNode* dict = &pickle_.at(pickle_.root);
        for (int level = 0; level < 4; ++level) {
            if (dict->kind != Kind::dict) break;
            const PickleNode* inner = nullptr;
            std::string_view taken;
            const auto look = [&](std::string_view key) {
                const PickleNode* found = pickle_.find(*dict, key);
                if (found == nullptr || found->kind != Kind::dict || found->items.empty()) return;
                if (inner == nullptr) {
                    inner = found;
                    taken = key;
                } else {
                    file.beside.emplace_back(cat(file.taken, file.taken.empty() ? "" : ".", key));
                }
            };
            std::for_each(plain_keys.begin(), plain_keys.end(), look);
            std::for_each(averaged_keys.begin(), averaged_keys.end(), look);
            if (inner == nullptr) return *dict;
            dict = inner;
            file.taken += cat(file.taken.empty() ? "" : ".", taken);
        }
        refuse_kind(what_, "it holds no state dict",
                    "names are needed to tell which tensor belongs where",
                    "write one in Python: torch.save(model.state_dict(), FILE)");
    }

    void collect(const PickleNode& dict, TensorFile& file) const {
        std::unordered_set<std::string_view> names;
        for (std::size_t i = 0; i + 1 < dict.items.size(); i += 2) {
            const PickleNode& key = pickle_.at(dict.items[i]);
            const PickleNode& value = pickle_.at(dict.items[i + 1]);
            if (key.kind != Kind::text) fail("its state dict has a key that is no text");
            check_name(key.text, what_);
            if (!names.insert(key.text).second)
                fail(cat("the tensor ", shown(key.text), " stands twice"));
            if (value.kind == Kind::tensor)
                file.tensors.push_back(
                    tensor(key.text, pickle_.tensors[static_cast<std::size_t>(value.number)]));
            else
                file.others.emplace_back(key.text);
        }
        if (file.tensors.empty()) {
            refuse_kind(
                what_,
                file.others.empty()
                    ? "its state dict holds no tensor"
                    : cat("its state dict holds no tensor, only ", shown(file.others.front()),
                          file.others.size() == 1 ? "" : " and other objects"),
                "there is no network in it",
                "write one in Python: torch.save(model.state_dict(), FILE)");
        }
    }

    StoredTensor tensor(std::string_view tensor_name, const PickledTensor& from) const {
        const std::string shown_name = shown(tensor_name);
        if (!from.storage) fail(cat("the tensor ", shown_name, " was never filled"));
        const PickledStorage& storage = pickle_.storages[*from.storage];
        const auto limit = static_cast<std::uint64_t>(storage.view_elements);
        const auto elements = elements_within(from.extents, bytes_.size());
        if (!elements || *elements > limit) {
            fail(cat("the tensor ", shown_name,
                     " has more elements than its storage (expanded?); save a contiguous copy"));
        }
        // The place of the last element: within the storage, so that nothing overflows on the way.
        const auto offset = static_cast<std::uint64_t>(from.offset);
        std::uint64_t last = offset;
        bool inside = offset <= limit;
        StoredTensor made{.name = std::string(tensor_name),
                          .type = storage.type,
                          .extents = from.extents,
                          .strides = from.strides,
                          .bytes = {}};
        for (std::size_t d = 0; inside && *elements > 0 && d < from.extents.size(); ++d) {
            std::uint64_t reach = 0;
            if (from.extents[d] == 1) made.strides[d] = 0;  // never taken, and may be any number
            inside = multiply(static_cast<std::uint64_t>(from.extents[d] - 1),
                              static_cast<std::uint64_t>(made.strides[d]), limit - last, reach);
            last += reach;
        }
        if (!inside || (*elements > 0 && last >= limit))
            fail(cat("the tensor ", shown_name, " reaches beyond its storage"));
        const std::size_t size = size_of(storage.type);
        const std::size_t count = *elements == 0 ? 0 : static_cast<std::size_t>(last - offset + 1);
        made.bytes = storages_.at(storage.key)
                         .subspan(
                             static_cast<std::size_t>(storage.view_offset + from.offset) * size,
                             count * size);
        return made;
    }

    Bytes bytes_;
    const std::string what_;
    std::vector<ZipEntry> entries_;
    Pickle pickle_, keys_;
    Storages storages_;
};

}  // namespace

TensorFile parse_pth(std::vector<unsigned char> bytes, const std::string& what) {
    TensorFile file;
    file.bytes = std::move(bytes);
    PthReader(file.bytes, what).read(file);
    return file;
}

}  // namespace deeplab::io
