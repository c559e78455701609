#pragma once
// How the entries of a source become records: image and mask from files, or masks that are drawn.

#include <optional>
#include <string>
#include <vector>

#include "deeplab/comm/communicator.h"
#include "deeplab/io/value.h"
#include "record.h"
#include "source.h"

namespace deeplab::preprocess {

class Records {
public:
    virtual ~Records() = default;

    // Decodes and checks everything, as load_record() does; nothing where a rule of the source
    // leaves the entry out.
    virtual std::optional<Loaded> load(const Entry& entry) = 0;
    // The same record again, once load() has accepted it.
    virtual data::Record reload(const Entry& entry) = 0;

    // After all ranks have loaded their entries; collective, and rank 0 has the rest from here on.
    virtual void gather(comm::Communicator&) {}
    virtual std::vector<std::string> remarks() const { return {}; }  // information, one text each
    virtual std::vector<std::string> warnings() const { return {}; }
    // Members that the manifest has beside those of every split.
    virtual io::Object members() const { return {}; }
    // Why no entry is left: of a source all of whose entries were left out.
    virtual std::string nothing_left() const = 0;
    // What a user can do about findings.
    virtual std::string remedy() const = 0;
};

// Images and masks that lie in files.
class FileRecords : public Records {
public:
    FileRecords(const Source& source, const data::ClassFile& classes, data::Encoding encoding)
        : source_(source), classes_(classes), encoding_(encoding) {}

    std::optional<Loaded> load(const Entry& entry) override {
        return load_record(entry, classes_, encoding_);
    }
    data::Record reload(const Entry& entry) override {
        return reload_record(entry, classes_, encoding_);
    }
    std::string nothing_left() const override;
    std::string remedy() const override;

private:
    const Source& source_;
    const data::ClassFile& classes_;
    data::Encoding encoding_;
};

}  // namespace deeplab::preprocess
