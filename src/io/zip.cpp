// PKWARE's APPNOTE.TXT 6.3.x; the numbers of its sections stand beside what they define.
#include "zip.h"

#include <optional>
#include <unordered_set>

#include "deeplab/base/files.h"

namespace deeplab::io {
namespace {

constexpr std::uint32_t end_signature = 0x06054b50, locator_signature = 0x07064b50,
                        end64_signature = 0x06064b50, central_signature = 0x02014b50,
                        local_signature = 0x04034b50;
constexpr std::uint16_t zip64_field = 1;

struct Directory {
    std::uint64_t entries = 0, bytes = 0, offset = 0;
};

class ZipReader {
public:
    ZipReader(Bytes file, const std::string& what) : file_(file), what_(what) {}

    std::vector<ZipEntry> read() {
        const Directory directory = find_directory();
        if (!fits(directory.offset, directory.bytes)) fail("its directory lies outside the file");
        // 46: the least that an entry takes. A network has a thousand tensors.
        if (directory.entries > directory.bytes / 46 || directory.entries > 1'000'000)
            fail("its directory claims too many entries");
        const Bytes list = file_.subspan(static_cast<std::size_t>(directory.offset),
                                         static_cast<std::size_t>(directory.bytes));
        std::vector<ZipEntry> entries;
        std::unordered_set<std::string> names;
        std::size_t at = 0;
        for (std::uint64_t i = 0; i < directory.entries; ++i) {
            entries.push_back(read_entry(list, at));
            if (!names.insert(entries.back().name).second)
                fail(cat("the entry ", shown(entries.back().name), " stands twice"));
        }
        return entries;
    }

private:
    [[noreturn]] void fail(const std::string& problem) const {
        refuse(what_, cat("as a zip archive: ", problem));
    }
    bool fits(std::uint64_t offset, std::uint64_t size) const {
        return offset <= file_.size() && size <= file_.size() - offset;
    }

    // 4.3.16: the end record, behind which only a comment of up to 65535 bytes stands.
    Directory find_directory() const {
        constexpr std::size_t record = 22, longest_comment = 65535;
        if (file_.size() < record) fail("it is too short");
        const std::size_t last = file_.size() - record;
        for (std::size_t back = 0; back <= std::min(last, longest_comment); ++back) {
            const std::size_t at = last - back;
            if (little_endian<std::uint32_t>(file_, at) != end_signature) continue;
            if (little_endian<std::uint16_t>(file_, at + 20) != back) continue;
            if (auto found = directory64(at)) return *found;
            return {little_endian<std::uint16_t>(file_, at + 10),
                    little_endian<std::uint32_t>(file_, at + 12),
                    little_endian<std::uint32_t>(file_, at + 16)};
        }
        fail("the record at its end is missing; it is truncated");
    }

    // 4.3.14 and 4.3.15: the locator stands before the end record and names the zip64 record.
    std::optional<Directory> directory64(std::size_t end) const {
        constexpr std::size_t locator = 20, record = 56;
        if (end < locator ||
            little_endian<std::uint32_t>(file_, end - locator) != locator_signature)
            return std::nullopt;
        const auto offset = little_endian<std::uint64_t>(file_, end - locator + 8);
        const auto at = static_cast<std::size_t>(offset);
        if (!fits(offset, record) || little_endian<std::uint32_t>(file_, at) != end64_signature)
            fail("its zip64 record is not where the locator says");
        return Directory{little_endian<std::uint64_t>(file_, at + 32),
                         little_endian<std::uint64_t>(file_, at + 40),
                         little_endian<std::uint64_t>(file_, at + 48)};
    }

    // 4.3.12: one entry of the directory; `at` moves behind it.
    ZipEntry read_entry(Bytes list, std::size_t& at) const {
        constexpr std::size_t header = 46;
        if (list.size() - at < header ||
            little_endian<std::uint32_t>(list, at) != central_signature)
            fail("its directory is damaged");
        const auto flags = little_endian<std::uint16_t>(list, at + 8),
                   method = little_endian<std::uint16_t>(list, at + 10),
                   name_size = little_endian<std::uint16_t>(list, at + 28),
                   extra_size = little_endian<std::uint16_t>(list, at + 30),
                   comment_size = little_endian<std::uint16_t>(list, at + 32);
        const auto crc = little_endian<std::uint32_t>(list, at + 16);
        std::uint64_t packed = little_endian<std::uint32_t>(list, at + 20),
                      size = little_endian<std::uint32_t>(list, at + 24),
                      offset = little_endian<std::uint32_t>(list, at + 42);
        at += header;
        if (list.size() - at < std::size_t{name_size} + extra_size + comment_size)
            fail("its directory is damaged");
        const std::string name(reinterpret_cast<const char*>(list.data()) + at, name_size);
        read_zip64(list.subspan(at + name_size, extra_size), size, packed, offset);
        at += std::size_t{name_size} + extra_size + comment_size;
        if ((flags & 1) != 0) fail(cat("the entry ", shown(name), " is encrypted"));
        const bool stored = method == 0 && packed == size;
        return {name, stored ? data_of(name, offset, size) : Bytes{}, crc, stored};
    }

    // 4.5.3: what did not fit into 32 bits, in this order.
    void read_zip64(Bytes extra, std::uint64_t& size, std::uint64_t& packed,
                    std::uint64_t& offset) const {
        std::size_t at = 0;
        while (extra.size() - at >= 4) {
            const auto id = little_endian<std::uint16_t>(extra, at);
            std::size_t left = little_endian<std::uint16_t>(extra, at + 2);
            at += 4;
            if (left > extra.size() - at) fail("its directory is damaged");
            const std::size_t next = at + left;
            for (std::uint64_t* value : {&size, &packed, &offset}) {
                if (id != zip64_field || *value != 0xffffffff || left < 8) continue;
                *value = little_endian<std::uint64_t>(extra, at);
                at += 8;
                left -= 8;
            }
            at = next;
        }
    }

    // 4.3.7: the local header repeats the name and has an extra field of its own (PyTorch's
    // padding); its sizes may be zero where a descriptor follows the data.
    Bytes data_of(const std::string& name, std::uint64_t offset, std::uint64_t size) const {
        constexpr std::size_t header = 30;
        const auto at = static_cast<std::size_t>(offset);
        if (!fits(offset, header) || little_endian<std::uint32_t>(file_, at) != local_signature)
            fail(cat("the entry ", shown(name), " is not where the directory says"));
        const std::uint64_t start = offset + header + little_endian<std::uint16_t>(file_, at + 26) +
                                    little_endian<std::uint16_t>(file_, at + 28);
        if (!fits(start, size)) fail(cat("the entry ", shown(name), " reaches beyond the file"));
        return file_.subspan(static_cast<std::size_t>(start), static_cast<std::size_t>(size));
    }

    Bytes file_;
    const std::string& what_;
};

}  // namespace

std::vector<ZipEntry> read_zip(Bytes file, const std::string& what) {
    return ZipReader(file, what).read();
}

void check_crc(const ZipEntry& entry, const std::string& what) {
    if (!entry.stored) {
        refuse_kind(what,
                    cat("as a zip archive: the entry ", shown(entry.name),
                        " is compressed, which PyTorch never does"),
                    "another program has packed it, and nothing is unpacked here",
                    "unpack it and pack it again with zip -0, or write it with torch.save");
    }
    if (crc32(entry.bytes) != entry.crc)
        refuse(what, cat("the checksum of ", shown(entry.name), " is not that of its bytes"));
}

}  // namespace deeplab::io
